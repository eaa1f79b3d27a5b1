#include "lib/exec/program.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::exec {
namespace {

using ::testing::HasSubstr;

ProgramSpec Shell(const std::string& script) {
  ProgramSpec spec;
  spec.argv = {"/bin/sh", "-c", script};
  spec.environment = {std::string(ProgramPath())};
  return spec;
}

// Waits for the end, and reads what it wrote to stdout.
std::string OutputOf(Program& program) {
  std::string output;
  while (true) {
    pollfd fds[] = {{program.pidfd(), POLLIN, 0}, {program.out().get(), POLLIN, 0}};
    (void)poll(fds, 2, 20'000);
    (void)ReadSome(program.out(), 1 << 20, [&](std::string_view bytes) { output += bytes; });
    if (program.HasEnded() && !program.out().open()) return output;
  }
}

TEST(Program, RunsWithAnExactEnvironmentInItsFolderWithoutInputInASessionOfItsOwn) {
  testing::TempFolder folder;
  ProgramSpec spec = Shell(
      "pwd; readlink /proc/self/fd/0; echo \"${HOME-none} $A\"; cut -d' ' -f1,5,6 "
      "/proc/$$/stat; echo oops >&2");
  spec.environment.emplace_back("A=b");
  spec.directory = folder.path();
  auto program = Program::Start(spec);
  ASSERT_TRUE(program.ok()) << program.status();
  const pid_t pid = program->pid();
  EXPECT_EQ(OutputOf(*program),
            fmt::format("{}\n/dev/null\nnone b\n{} {} {}\n", folder.path(), pid, pid, pid));
  std::string errors;
  (void)ReadSome(program->err(), 100, [&](std::string_view bytes) { errors += bytes; });
  EXPECT_EQ(errors, "oops\n");
  EXPECT_EQ(program->Reap().exit_code, 0);
}

TEST(Program, ReadsAndWritesFilesThatItIsGiven) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("in"), "hello\n").ok());
  const Fd in(::open(folder.File("in").c_str(), O_RDONLY | O_CLOEXEC));
  const Fd out(::open(folder.File("out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  ProgramSpec spec = Shell("tr a-z A-Z");
  spec.in = in.get();
  spec.out = out.get();
  auto program = Program::Start(spec);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_FALSE(program->out().open());
  ASSERT_TRUE(testing::Eventually([&] { return program->HasEnded(); }));
  EXPECT_EQ(program->Reap().exit_code, 0);
  EXPECT_EQ(*ReadFile(folder.File("out")), "HELLO\n");
}

TEST(Program, ExecutesAnotherFileThanItsFirstArgumentNames) {
  ProgramSpec spec = Shell("echo $0");
  spec.argv = {"another-name", "-c", "echo $0"};
  spec.file = "/bin/sh";
  auto program = Program::Start(spec);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(OutputOf(*program), "another-name\n");
}

TEST(Program, SaysWhyItCannotBeStarted) {
  testing::TempFolder folder;
  ProgramSpec spec;
  EXPECT_FALSE(Program::Start(spec).ok());
  spec.argv = {folder.File("none")};
  EXPECT_EQ(Message(Program::Start(spec).status()),
            folder.File("none") + " cannot be started: No such file or directory");
  ASSERT_TRUE(WriteFileAtomically(folder.File("orphan"), "#!/no/such/shell\n", 0700).ok());
  spec.argv = {folder.File("orphan")};
  EXPECT_THAT(std::string(Message(Program::Start(spec).status())),
              HasSubstr("its interpreter is missing"));
  spec.argv = {folder.path()};
  EXPECT_EQ(Program::Start(spec).status().code(), absl::StatusCode::kPermissionDenied);
  spec = Shell("true");
  spec.directory = folder.File("nowhere");
  EXPECT_THAT(std::string(Message(Program::Start(spec).status())),
              HasSubstr("there is no folder " + folder.File("nowhere")));
}

TEST(Program, GoesWithItsGroup) {
  pid_t child = 0;
  {
    auto program = Program::Start(Shell("sleep 1000 & echo $!; wait"));
    ASSERT_TRUE(program.ok()) << program.status();
    std::string output;
    ASSERT_TRUE(testing::Eventually([&] {
      (void)ReadSome(program->out(), 100, [&](std::string_view bytes) { output += bytes; });
      return output.ends_with('\n');
    }));
    child = std::atoi(output.c_str());
    EXPECT_EQ(::kill(child, 0), 0);
    EXPECT_FALSE(program->HasEnded());
  }
  EXPECT_TRUE(testing::Eventually([&] {
    const StatusOr<std::string> stat = ReadFile(fmt::format("/proc/{}/stat", child));
    return !stat.ok() || stat->find(") Z ") != std::string::npos;
  }));
}

TEST(Program, TellsTheSignalThatEndedIt) {
  auto program = Program::Start(Shell("sleep 1000"));
  ASSERT_TRUE(program.ok()) << program.status();
  program->Signal(SIGTERM);
  ASSERT_TRUE(testing::Eventually([&] { return program->HasEnded(); }));
  const ProgramStatus status = program->Reap();
  EXPECT_EQ(status.signal, SIGTERM);
  EXPECT_EQ(status.exit_code, -1);
}

TEST(ReadSome, StopsAtItsBoundAndSaysWhetherMoreMayBeThere) {
  auto program = Program::Start(Shell("head -c 50000 /dev/zero"));
  ASSERT_TRUE(program.ok()) << program.status();
  ASSERT_TRUE(testing::Eventually([&] { return program->HasEnded(); }));
  size_t read = 0;
  const auto count = [&](std::string_view bytes) { read += bytes.size(); };
  EXPECT_TRUE(ReadSome(program->out(), 30'000, count));
  EXPECT_EQ(read, 30'000u);
  EXPECT_FALSE(ReadSome(program->out(), 30'000, count));
  EXPECT_EQ(read, 50'000u);
  EXPECT_FALSE(program->out().open());
}

}  // namespace
}  // namespace muster::exec
