#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "ctl/commands/run_ids.h"
#include "ctl/commands/run_wait.h"
#include "ctl/commands/test_runs.h"
#include "lib/base/text.h"

namespace muster::ctl {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string RunCommands::Program() { return MUSTER_BIN_DIR "/musterctl"; }

namespace {

TEST(RunExitCode, SaysHowItEnded) {
  EXPECT_EQ(ExitCodeOf(v1::RUN_STATE_SUCCEEDED), 0);
  for (const auto state : {v1::RUN_STATE_FAILED, v1::RUN_STATE_TIMED_OUT, v1::RUN_STATE_CANCELLED,
                           v1::RUN_STATE_MISSED}) {
    EXPECT_EQ(ExitCodeOf(state), 1);
  }
  EXPECT_EQ(ExitCodeOf(v1::RUN_STATE_UNKNOWN), 8);
  EXPECT_EQ(ExitCodeOf(v1::RUN_STATE_UNSPECIFIED), 8);  // of a server newer than this
}

TEST(RunIds, ArePrefixesOfAUuid) {
  EXPECT_TRUE(IsRunId(kRunId));
  EXPECT_FALSE(IsRunId("0a1b2c3d"));
  for (const char* good : {"0a1b2c3d", "0a1b2c3d-", "0a1b2c3d-4e5f-5a", kRunId})
    EXPECT_TRUE(IsRunPrefix(good)) << good;
  for (const char* bad : {"", "0a1b2c3", "0a1b2c3d4", "0a1b2c3x", "nightly-1",
                          "0a1b2c3d-4e5f-5a6b-"
                          "8c7d-9e0f1a2b3c4d0"})
    EXPECT_FALSE(IsRunPrefix(bad)) << bad;
}

TEST(RunIds, OfSeveralTheCandidatesAreNamed) {
  const v1::Run one = RunIn(v1::RUN_STATE_FAILED);
  const v1::Run other = RunIn(v1::RUN_STATE_FAILED, "", "0a1b2c3d-ffff-5a6b-8c7d-9e0f1a2b3c4d");
  EXPECT_EQ(*PickRun("0a1b2c3d", {one}), kRunId);
  EXPECT_EQ(PickRun("0a1b2c3d", {}).status().code(), absl::StatusCode::kNotFound);
  const Status several = PickRun("0a1b2c3d", {one, other}).status();
  EXPECT_EQ(several.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(several),
            "several runs begin with 0a1b2c3d; write more of the id:\n"
            "  0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d  nightly, slot 2026-09-21T14:13:20Z\n"
            "  0a1b2c3d-ffff-5a6b-8c7d-9e0f1a2b3c4d  nightly, slot 2026-09-21T14:13:20Z");
}

v1::RunLogEntry Lines(uint64_t first, const std::string& text, v1::RunOutput::Stream stream) {
  v1::RunLogEntry entry;
  entry.set_attempt(1);
  entry.mutable_output()->set_first_line(first);
  entry.mutable_output()->set_text(text);
  entry.mutable_output()->set_stream(stream);
  return entry;
}

TEST_F(RunCommands, RunPrintsTheRunAndDoesNotWait) {
  const auto ran = Musterctl({"run", "nightly", "-o", "json"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["id"], kRunId);
  EXPECT_EQ(json["state"], "QUEUED");
  EXPECT_EQ(Musterctl({"run", "nightly", "-o", "name"}).out, fmt::format("run/{}\n", kRunId));
  EXPECT_THAT(Musterctl({"run", "nightly"}).out, HasSubstr("0a1b2c3d  nightly  -      QUEUED"));
}

TEST_F(RunCommands, AnUnknownJobIsNotFound) {
  const auto ran = Musterctl({"run", "nightli"});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_THAT(ran.out, IsEmpty());
  EXPECT_THAT(ran.err, HasSubstr("there is no job named nightli"));
}

TEST_F(RunCommands, ABrokenConnectionStartsNothingTwice) {
  plane_.broken_starts = 2;
  EXPECT_EQ(Musterctl({"run", "nightly"}).exit_code, 0);
  EXPECT_EQ(plane_.starts(), 3);
  EXPECT_THAT(plane_.request_ids(), SizeIs(1));
}

TEST_F(RunCommands, WhetherItWasStartedIsSaidToBeUnknown) {
  plane_.broken_starts = 1000;
  const auto ran = Musterctl({"run", "nightly", "--timeout", "1s"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_THAT(ran.err, HasSubstr("whether the run was started is not known: musterctl get runs "
                                 "--job nightly"));
}

TEST_F(RunCommands, WaitGivesTheResultAndItsExitCode) {
  const std::pair<v1::RunState, int> ends[] = {
      {v1::RUN_STATE_SUCCEEDED, 0}, {v1::RUN_STATE_FAILED, 1}, {v1::RUN_STATE_TIMED_OUT, 1},
      {v1::RUN_STATE_CANCELLED, 1}, {v1::RUN_STATE_MISSED, 1}, {v1::RUN_STATE_UNKNOWN, 8}};
  for (const auto& [state, code] : ends) {
    plane_.watched = {RunIn(v1::RUN_STATE_RUNNING), RunIn(state, "because")};
    const auto ran = Musterctl({"run", "nightly", "--wait", "-o", "json"});
    EXPECT_EQ(ran.exit_code, code) << ran.err;
    EXPECT_EQ(nlohmann::json::parse(ran.out)["state"], v1::RunState_Name(state).substr(10));
    EXPECT_THAT(ran.err, HasSubstr("run 0a1b2c3d: RUNNING on db-1\n"));
    if (code != 0) {
      EXPECT_THAT(ran.err, AllOf(HasSubstr(": because\n"), HasSubstr("musterctl logs 0a1b2c3d")));
    }
  }
}

TEST_F(RunCommands, WaitGoesOnOverBrokenStreams) {
  plane_.broken_streams = 2;
  plane_.watched = {RunIn(v1::RUN_STATE_SUCCEEDED)};
  const auto ran = Musterctl({"run", "nightly", "--wait"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("the control plane is away; connecting again\n"));
  EXPECT_EQ(plane_.streams(), 3);
}

TEST_F(RunCommands, WaitTellsMustersNotesOnTheRunAndNotItsOutput) {
  plane_.watched = {RunIn(v1::RUN_STATE_SUCCEEDED)};
  plane_.log = {Lines(1, "starts /bin/x\n", v1::RunOutput::STREAM_NOTE),
                Lines(2, "one\n", v1::RunOutput::STREAM_STDOUT)};
  const auto ran = Musterctl({"run", "nightly", "--wait", "-o", "name"});
  EXPECT_EQ(ran.out, fmt::format("run/{}\n", kRunId));
  EXPECT_THAT(ran.err, HasSubstr("# starts /bin/x\n"));
  EXPECT_THAT(ran.err, Not(HasSubstr("one")));
}

TEST_F(RunCommands, WaitDoesNotHangOnAStreamThatIsNotClosed) {
  plane_.watched = {RunIn(v1::RUN_STATE_SUCCEEDED)};
  plane_.hangs = true;
  EXPECT_EQ(Musterctl({"run", "nightly", "--wait"}).exit_code, 0);
}

TEST_F(RunCommands, WhatIsNotOverInTimeExits6AndSaysHowToGoOn) {
  plane_.watched = {RunIn(v1::RUN_STATE_RUNNING)};
  plane_.hangs = true;
  const auto ran = Musterctl({"run", "nightly", "--wait", "--timeout", "1s", "-o", "json"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_EQ(nlohmann::json::parse(ran.out)["state"], "RUNNING");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("is not over yet, and goes on"),
                             HasSubstr("musterctl logs 0a1b2c3d -f"),
                             HasSubstr("musterctl describe run 0a1b2c3d")));
}

TEST_F(RunCommands, InterruptedItSaysThatTheRunGoesOn) {
  plane_.watched = {RunIn(v1::RUN_STATE_RUNNING)};
  plane_.hangs = true;
  testing::ServerProcess waiting(Argv({"run", "nightly", "--wait"}), folder_.File("log"));
  ASSERT_TRUE(
      testing::Eventually([&] { return waiting.Log().find("RUNNING") != std::string::npos; }));
  EXPECT_EQ(waiting.Stop(SIGINT), 130);
  EXPECT_THAT(waiting.Log(), AllOf(HasSubstr("run 0a1b2c3d of nightly goes on"),
                                   HasSubstr("musterctl cancel 0a1b2c3d")));
}

TEST_F(RunCommands, OnATerminalItShowsHowFarTheRunIs) {
  v1::Run run = RunIn(v1::RUN_STATE_RUNNING);
  run.mutable_progress()->set_done(300);
  run.mutable_progress()->set_total(1000);
  run.mutable_progress()->set_unit("rows");
  *run.mutable_started_at() = wire::ToProto(SystemClock().Now());
  plane_.watched = {run};
  plane_.hangs = true;
  std::string command;
  for (const std::string& word : Argv({"run", "nightly", "--wait", "--timeout", "2500ms"}))
    command += word + " ";
  const auto ran = testing::RunProgram({"script", "-qec", command, "/dev/null"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_THAT(ran.out, HasSubstr("\r\x1b[KRUNNING  db-1  0s  [######..............]  30%  300 of "
                                 "1000 rows"));
  EXPECT_THAT(ran.out, HasSubstr("RUNNING  db-1  2s  "));  // it draws though nothing is told
}

TEST_F(RunCommands, GetRunsListsAllPages) {
  for (int i = 0; i < 5; ++i)
    plane_.listed.push_back(RunIn(v1::RUN_STATE_SUCCEEDED, "",
                                  fmt::format("{}a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d", i)));
  const auto all = Musterctl({"get", "runs", "-o", "json"});
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_THAT(nlohmann::json::parse(all.out)["items"], SizeIs(5));
  EXPECT_THAT(all.err, IsEmpty());
  const auto some = Musterctl({"get", "runs", "-o", "json", "--limit", "3", "--state", "failed"});
  EXPECT_THAT(nlohmann::json::parse(some.out)["items"], SizeIs(3));
  EXPECT_THAT(some.err, HasSubstr("there are more: --limit 0 lists all"));
}

TEST_F(RunCommands, GetRefusesWhatItDoesNotKnow) {
  const auto state = Musterctl({"get", "runs", "--state", "done"});
  EXPECT_EQ(state.exit_code, 2);
  EXPECT_THAT(state.err, HasSubstr("there are QUEUED, RUNNING, SUCCEEDED"));
  const auto flag = Musterctl({"get", "agents", "--job", "nightly"});
  EXPECT_EQ(flag.exit_code, 2);
  EXPECT_THAT(flag.err, HasSubstr("--job goes with: get runs"));
}

TEST_F(RunCommands, CallsARunByItsFirstDigitsOrAsTheLatest) {
  plane_.listed = {RunIn(v1::RUN_STATE_RUNNING),
                   RunIn(v1::RUN_STATE_FAILED, "", "0b1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d"),
                   RunIn(v1::RUN_STATE_FAILED, "", "0b1b2c3d-aaaa-5a6b-8c7d-9e0f1a2b3c4d")};
  for (const char* name : {"0a1b2c3d", "0A1B2C3D-4e", "nightly/latest", kRunId}) {
    EXPECT_EQ(Musterctl({"cancel", name, "--terminate", "--reason", "too slow"}).exit_code, 0);
    EXPECT_EQ(plane_.cancelled().id(), kRunId) << name;
    EXPECT_TRUE(plane_.cancelled().terminate());
    EXPECT_EQ(plane_.cancelled().reason(), "too slow");
  }
  EXPECT_EQ(Musterctl({"cancel", "0b1b2c3d"}).exit_code, 2);
  EXPECT_EQ(Musterctl({"cancel", "0b1b"}).exit_code, 2);
  EXPECT_EQ(Musterctl({"cancel", "ffffffff"}).exit_code, 3);
}

TEST_F(RunCommands, LogsFollowsOverBrokenStreamsAndTellsEachLineOnce) {
  plane_.broken_streams = 1;
  plane_.dropped = 5;
  plane_.log = {Lines(1, "one\n", v1::RunOutput::STREAM_STDOUT),
                Lines(4, "four\n", v1::RunOutput::STREAM_STDERR)};
  const auto ran = Musterctl({"logs", kRunId, "-f"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(ran.out, "one\n… 2 lines were not kept\n! four\n… 3 lines were not kept\n");
}

TEST_F(RunCommands, LogsAsJsonAreALineAnEntry) {
  plane_.log = {Lines(1, "one\ntwo\n", v1::RunOutput::STREAM_STDOUT)};
  const auto json = nlohmann::json::parse(Musterctl({"logs", kRunId, "-o", "json"}).out);
  EXPECT_EQ(json["attempt"], 1);
  EXPECT_EQ(json["output"]["stream"], "STDOUT");
  EXPECT_EQ(json["output"]["text"], "one\ntwo\n");
  EXPECT_THAT(Musterctl({"logs", kRunId, "--attempt", "2"}).out, IsEmpty());
}

TEST_F(RunCommands, PauseEndsWhenItIsTold) {
  EXPECT_EQ(Musterctl({"pause", "nightly"}).out, "job/nightly paused until somebody resumes it\n");
  EXPECT_FALSE(plane_.paused().has_until());
  EXPECT_EQ(
      Musterctl({"pause", "nightly", "--until", "2100-01-01T00:00:00+01:00", "--reason", "x"}).out,
      "job/nightly paused until 2099-12-31T23:00:00Z\n");
  EXPECT_EQ(wire::FromProto(plane_.paused().until()), *ParseTime("2099-12-31T23:00:00Z"));
  EXPECT_EQ(plane_.paused().reason(), "x");
  EXPECT_EQ(Musterctl({"pause", "nightly", "--for", "2h"}).exit_code, 0);
  EXPECT_GT(wire::FromProto(plane_.paused().until()), SystemClock().Now() + absl::Hours(1));
  EXPECT_EQ(Musterctl({"pause", "nightly", "--until", "2000-01-01T00:00:00Z"}).exit_code, 2);
  EXPECT_EQ(
      Musterctl({"pause", "nightly", "--for", "2h", "--until", "2100-01-01T00:00:00Z"}).exit_code,
      2);
}

TEST_F(RunCommands, BackfillRefusesASpanThatIsNone) {
  EXPECT_EQ(Musterctl({"backfill", "nightly", "--from", "2026-01-02T00:00:00Z", "--until",
                       "2026-01-01T00:00:00Z"})
                .exit_code,
            2);
  EXPECT_EQ(
      Musterctl({"backfill", "nightly", "--from", "yesterday", "--until", "2026-01-01T00:00:00Z"})
          .exit_code,
      2);
}

}  // namespace
}  // namespace muster::ctl
