// What confined programs can no longer do, each next to the same program that may.
#include "lib/exec/confine.h"

#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/file.h"
#include "lib/exec/program.h"
#include "lib/testing/servers.h"

namespace muster::exec {
namespace {

using ::testing::HasSubstr;

constexpr char kShell[] = "/bin/sh";
constexpr char kPython[] = "/usr/bin/python3";

struct End {
  int exit_code = -1;
  std::string out;
};

// stdout and stderr are one.
End RunToEnd(std::vector<std::string> argv, std::optional<Confinement> confinement) {
  testing::TempFolder folder;
  const Fd out(::open(folder.File("out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  ProgramSpec spec;
  spec.argv = std::move(argv);
  spec.environment = {std::string(ProgramPath())};
  spec.out = out.get();
  spec.err = out.get();
  spec.confinement = std::move(confinement);
  StatusOr<Program> program = Program::Start(spec);
  EXPECT_TRUE(program.ok()) << program.status();
  if (!program.ok()) return {};
  EXPECT_TRUE(testing::Eventually([&] { return program->HasEnded(); }));
  End end;
  end.exit_code = program->Reap().exit_code;
  end.out = ReadFile(folder.File("out")).value_or("");
  return end;
}

End Script(const std::string& script, const Confinement& confinement) {
  return RunToEnd({kShell, "-c", script}, confinement);
}

class Confined : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!CanConfineFiles()) GTEST_SKIP() << "this kernel has no Landlock";
    std::filesystem::create_directories(inside_ + "/sub");
    ASSERT_TRUE(WriteFileAtomically(outside_, "as it was").ok());
  }
  Confinement Shell() const { return {.writes = {inside_}, .programs = {kShell}}; }

  testing::TempFolder folder_;
  const std::string inside_ = folder_.File("inside");
  const std::string outside_ = folder_.File("outside");
};

TEST_F(Confined, ProgramsChangeWhatIsInTheirFolder) {
  const End end = Script("echo 1 > " + inside_ + "/sub/file && echo ok > /dev/null && read x < " +
                             outside_ + "; test \"$x\" = 'as it was' && echo well",
                         Shell());
  EXPECT_EQ(end.out, "well\n");
  EXPECT_EQ(*ReadFile(inside_ + "/sub/file"), "1\n");
}

TEST_F(Confined, ProgramsLinkAndRenameBetweenTheirFolders) {
  ASSERT_TRUE(WriteFileAtomically(inside_ + "/file", "text").ok());
  Confinement confinement = Shell();
  confinement.programs = {kPython};
  const End end = RunToEnd({kPython, "-c",
                            fmt::format("import os; os.link('{0}/file', '{0}/sub/linked'); "
                                        "os.rename('{0}/file', '{0}/sub/moved'); "
                                        "os.truncate('{0}/sub/moved', 2)",
                                        inside_)},
                           confinement);
  EXPECT_EQ(end.exit_code, 0) << end.out;
  EXPECT_EQ(*ReadFile(inside_ + "/sub/linked"), "te");
}

TEST_F(Confined, ProgramsChangeNothingElsewhere) {
  for (const char* script :
       {"import os; open('{}', 'w')", "import os; open('{}', 'a')", "import os; os.remove('{}')",
        "import os; os.truncate('{}', 0)", "import os; os.mkdir('{}-2')",
        "import os; os.symlink('x', '{}-2')", "import os; os.rename('{}', '{}-2')",
        "import socket; socket.socket(socket.AF_UNIX).bind('{}-2')"}) {
    std::string text = script;
    for (size_t at; (at = text.find("{}")) != std::string::npos;) text.replace(at, 2, outside_);
    const End end =
        RunToEnd({kPython, "-c", text},
                 Confinement{.writes = {inside_}, .programs = {kPython}, .connects = true});
    EXPECT_EQ(end.exit_code, 1) << script;
    EXPECT_THAT(end.out, HasSubstr("PermissionError")) << script;
    EXPECT_EQ(*ReadFile(outside_), "as it was") << script;
    EXPECT_FALSE(std::filesystem::exists(outside_ + "-2")) << script;
  }
}

TEST_F(Confined, ProgramsExecuteNoOthersEvenTheirOwn) {
  std::filesystem::copy_file("/bin/ls", inside_ + "/ls");
  for (const std::string& program : {std::string("/bin/ls"), inside_ + "/ls"}) {
    const End end = Script(program + " /", Shell());
    EXPECT_EQ(end.exit_code, 126) << program;
    EXPECT_THAT(end.out, HasSubstr("Permission denied")) << program;
    EXPECT_EQ(RunToEnd({kShell, "-c", program + " /"}, std::nullopt).exit_code, 0) << program;
  }
}

TEST_F(Confined, ProgramsThatAreNotAmongTheirOwnAreNotStarted) {
  ProgramSpec spec;
  spec.argv = {"/bin/ls"};
  spec.confinement = Shell();
  EXPECT_EQ(Program::Start(spec).status().code(), absl::StatusCode::kPermissionDenied);
  spec.confinement->writes = {folder_.File("none")};
  const Status status = Program::Start(spec).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr(folder_.File("none")));
}

TEST(ConfinedSockets, ConnectToNothingUnlessTheyMay) {
  const testing::TempFolder folder;
  const std::string script = fmt::format(
      "import socket, sys\n"
      "server = socket.socket(socket.AF_UNIX); server.bind('{}/socket'); server.listen()\n"
      "def tell(what):\n"
      "  try: what(); print('yes')\n"
      "  except OSError as error: print(error.strerror)\n"
      "tell(lambda: socket.socket(socket.AF_UNIX).connect('{}/socket'))\n"
      "tell(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9)))\n"
      "tell(lambda: socket.socket(socket.AF_INET6))\n",
      folder.path(), folder.path());
  Confinement confinement{.writes = {folder.path()}, .programs = {kPython}};
  EXPECT_EQ(RunToEnd({kPython, "-c", script}, confinement).out,
            "Permission denied\nAddress family not supported by protocol\n"
            "Address family not supported by protocol\n");
  std::filesystem::remove(folder.File("socket"));
  confinement.connects = true;
  EXPECT_EQ(RunToEnd({kPython, "-c", script}, confinement).out, "yes\nyes\nyes\n");
}

TEST_F(Confined, ThisProcessStaysFree) {
  EXPECT_EQ(Script("echo", Shell()).exit_code, 0);
  EXPECT_TRUE(WriteFileAtomically(outside_, "changed").ok());
  EXPECT_EQ(RunToEnd({"/bin/ls", "/"}, std::nullopt).exit_code, 0);
}

}  // namespace
}  // namespace muster::exec
