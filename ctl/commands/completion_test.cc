#include <gtest/gtest.h>

#include "ctl/commands/cli.h"
#include "ctl/commands/commands.h"
#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::ctl {
namespace {

class Completion : public ::testing::TestWithParam<const char*> {};

TEST_P(Completion, IsAScriptThatItsShellReads) {
  Cli cli;
  AddGet(cli);
  AddToken(cli);
  AddWatch(cli);
  AddRun(cli);
  AddLogs(cli);
  AddBackfill(cli);
  testing::TempFolder folder;
  const std::string shell = GetParam();
  ASSERT_TRUE(WriteFileAtomically(folder.File("script"), CompletionScript(cli.app, shell)).ok());
  const auto ran = testing::RunProgram({shell, "-n", folder.File("script")});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
}

INSTANTIATE_TEST_SUITE_P(Shells, Completion, ::testing::Values("bash", "zsh", "fish"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Completion, BashOffersCommandsAndTheirSubcommands) {
  Cli cli;
  AddGet(cli);
  AddToken(cli);
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("script"), CompletionScript(cli.app, "bash")).ok());
  const auto offered = [&](const std::string& words, int index) {
    return testing::RunProgram({"bash", "-c",
                                fmt::format("source {}; COMP_WORDS=({}); COMP_CWORD={}; "
                                            "_musterctl; echo \"${{COMPREPLY[@]}}\"",
                                            folder.File("script"), words, index)})
        .out;
  };
  EXPECT_EQ(offered("musterctl to", 1), "token\n");
  EXPECT_EQ(offered("musterctl token cr", 2), "create\n");
  EXPECT_EQ(offered("musterctl get sta", 2), "states\n");
}

TEST(Completion, BashAsksTheControlPlaneForNames) {
  Cli cli;
  for (const auto add : {AddGet, AddDescribe, AddDelete, AddRun, AddLogs, AddPause}) add(cli);
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("script"), CompletionScript(cli.app, "bash")).ok());
  const auto offered = [&](const std::string& words, int index) {
    return testing::RunProgram(
               {"bash", "-c",
                fmt::format("source {}; musterctl() {{ case \"$2\" in jobs) echo job/nightly; echo "
                            "job/weekly;; runs) echo run/0a1b2c3d-x;; esac; }}; COMP_WORDS=({}); "
                            "COMP_CWORD={}; _musterctl; echo \"${{COMPREPLY[@]}}\"",
                            folder.File("script"), words, index)})
        .out;
  };
  EXPECT_EQ(offered("musterctl run ni", 2), "nightly\n");
  EXPECT_EQ(offered("musterctl pause w", 2), "weekly\n");
  EXPECT_EQ(offered("musterctl describe job we", 3), "weekly\n");
  EXPECT_EQ(offered("musterctl delete job ni", 3), "nightly\n");
  EXPECT_EQ(offered("musterctl logs 0", 2), "0a1b2c3d-x\n");
  EXPECT_EQ(offered("musterctl get runs --job we", 4), "weekly\n");
  EXPECT_EQ(offered("musterctl run --wa", 2), "--wait\n");
  EXPECT_EQ(offered("musterctl run nightly --time", 3), "--timeout\n");
}

}  // namespace
}  // namespace muster::ctl
