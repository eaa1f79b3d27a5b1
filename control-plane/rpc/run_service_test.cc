// What operators get of jobs and runs, over real mutual TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "control-plane/decide/schedule.h"
#include "control-plane/rpc/test_plane.h"
#include "control-plane/store/run_events.h"
#include "lib/exec/threads.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::control {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RunServiceTest : public ::testing::Test {
 protected:
  RunServiceTest()
      : stub_(v1::RunService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_ADMIN, "ada")))) {
    Apply("tidy", absl::Minutes(1));
  }

  enum class By { kMuster, kItsHost };
  void Apply(const std::string& name, absl::Duration every, By by = By::kMuster) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Job");
    document.mutable_metadata()->set_name(name);
    v1::JobSpec& job = *document.mutable_job();
    *job.mutable_schedule()->mutable_every() = wire::ToProto(every);
    job.mutable_command()->add_argv("/bin/true");
    if (by == By::kItsHost) job.mutable_reported();
    ASSERT_OK(plane_.store().specs().Apply(
        {document}, {"admin/ada", "spec.apply", "", "", plane_.clock().Now()}));
  }

  // Calls a method with a deadline.
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::RunService::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)));
    return (stub_.get()->*method)(&context, request, &response);
  }

  v1::Run Start(const std::string& request_id = "") {
    v1::StartRunRequest request;
    request.set_job("tidy");
    request.set_request_id(request_id);
    v1::StartRunResponse response;
    const grpc::Status status = Call(&v1::RunService::Stub::StartRun, request, response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.run();
  }

  RunRow Found(const std::string& id) { return **plane_.store().runs().Find(id); }

  // As the leader would.
  void Conclude(const std::string& id, v1::RunState state) {
    RunRow row = Found(id);
    const RunPhase phase = row.phase;
    row.phase = RunPhase::kOver;
    row.state = state;
    row.finished_at = plane_.clock().Now();
    const auto made = plane_.store().runs().Change(
        {}, {{.row = row, .expected_phase = phase, .expected_fence = row.fence, .what = "over"}},
        plane_.clock().Now());
    ASSERT_OK(made);
    ASSERT_EQ(made->made, 1U);
  }

  // As its agent would.
  void Write(const std::string& id, int lines) {
    RunRow row = Found(id);
    row.phase = RunPhase::kAssigned;
    row.agent = "db-1";
    row.fence = 1;
    row.assigned_at = plane_.clock().Now();
    ASSERT_OK(plane_.store().runs().Change(
        {}, {{.row = row, .expected_phase = RunPhase::kWaiting, .what = "assigned"}}, row.slot));
    std::vector<v1::RunEvent> events;
    for (int i = 1; i <= lines; ++i) {
      v1::RunEvent& event = events.emplace_back();
      event.set_run_id(id);
      event.set_fence(1);
      event.mutable_output()->set_stream(v1::RunOutput::STREAM_STDOUT);
      event.mutable_output()->set_first_line(static_cast<uint64_t>(i));
      event.mutable_output()->set_text(fmt::format("line {}\n", i));
    }
    ASSERT_OK(plane_.store().database().Write([&](sql::Transaction& t) {
      std::vector<AgentRunEvent> told;
      for (const v1::RunEvent& event : events) told.push_back({"db-1", &event, row.slot});
      return StoreRunEvents(t, told, row.slot);
    }));
  }

  TestPlane plane_;
  std::unique_ptr<v1::RunService::Stub> stub_;
};

TEST_F(RunServiceTest, ARequestThatIsSentAgainStartsNothingMore) {
  const v1::Run first = Start("6f1c");
  EXPECT_EQ(first.state(), v1::RUN_STATE_QUEUED);
  EXPECT_EQ(first.asked_by(), "admin/ada");
  EXPECT_EQ(Start("6f1c").id(), first.id());
  EXPECT_NE(Start("6f1d").id(), first.id());
  EXPECT_EQ(plane_.store().runs().Open()->size(), 2U);
}

// Version 4 is what hosts give to runs of their own.
TEST_F(RunServiceTest, ItsIdsAreOfVersionFiveAskedForOnceOrNot) {
  const v1::Run first = Start();
  EXPECT_EQ(first.id()[14], '5');
  EXPECT_EQ(Start("6f1c").id()[14], '5');
  EXPECT_NE(Start().id(), first.id());
}

TEST_F(RunServiceTest, WhatItAnswersOfARunIsWhatIsStored) {
  const v1::Run run = Start();
  v1::GetRunRequest request;
  request.set_id(run.id());
  v1::GetRunResponse response;
  ASSERT_TRUE(Call(&v1::RunService::Stub::GetRun, request, response).ok());
  EXPECT_EQ(response.run().SerializeAsString(), run.SerializeAsString());
  ASSERT_EQ(response.trail_size(), 1);
  EXPECT_EQ(response.trail(0).what(), "asked");
}

TEST_F(RunServiceTest, WhatIsNotThereIsNotFound) {
  v1::StartRunRequest start;
  start.set_job("nothing");
  v1::StartRunResponse started;
  EXPECT_EQ(Call(&v1::RunService::Stub::StartRun, start, started).error_code(),
            StatusCode::NOT_FOUND);
  v1::CancelRunRequest cancel;
  cancel.set_id("nothing");
  v1::CancelRunResponse cancelled;
  EXPECT_EQ(Call(&v1::RunService::Stub::CancelRun, cancel, cancelled).error_code(),
            StatusCode::NOT_FOUND);
  v1::GetRunRequest get;
  get.set_id("nothing");
  v1::GetRunResponse got;
  EXPECT_EQ(Call(&v1::RunService::Stub::GetRun, get, got).error_code(), StatusCode::NOT_FOUND);
  grpc::ClientContext context;
  v1::WatchRunRequest watch;
  watch.set_id("nothing");
  const auto stream = stub_->WatchRun(&context, watch);
  v1::Run run;
  EXPECT_FALSE(stream->Read(&run));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::NOT_FOUND);
}

TEST_F(RunServiceTest, WhatAHostRunsIsNotForUsToRun) {
  Apply("report", absl::Hours(1), By::kItsHost);
  v1::StartRunRequest start;
  start.set_job("report");
  v1::StartRunResponse started;
  const grpc::Status refused = Call(&v1::RunService::Stub::StartRun, start, started);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(refused.error_message(),
            "report is run by its host, which tells of it: run it there, with muster-agent exec "
            "--job report");
  v1::BackfillRequest fill;
  fill.set_job("report");
  *fill.mutable_from() = wire::ToProto(plane_.clock().Now() - absl::Hours(5));
  *fill.mutable_until() = wire::ToProto(plane_.clock().Now());
  v1::BackfillResponse filled;
  EXPECT_EQ(Call(&v1::RunService::Stub::Backfill, fill, filled).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(RunServiceTest, ARunThatIsOverCannotBeCancelled) {
  const v1::Run run = Start();
  v1::CancelRunRequest request;
  request.set_id(run.id());
  request.set_reason("not\nnow");
  v1::CancelRunResponse response;
  ASSERT_TRUE(Call(&v1::RunService::Stub::CancelRun, request, response).ok());
  EXPECT_TRUE(response.run().stopping());
  EXPECT_EQ(Found(run.id()).stop_reason, "cancelled by admin/ada: not now");
  Conclude(run.id(), v1::RUN_STATE_CANCELLED);
  EXPECT_EQ(Call(&v1::RunService::Stub::CancelRun, request, response).error_code(),
            StatusCode::FAILED_PRECONDITION);
  request.set_reason(std::string(1000, 'x'));
  EXPECT_EQ(Call(&v1::RunService::Stub::CancelRun, request, response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(RunServiceTest, WhoWaitsForARunHearsEachChangeAndTheEnd) {
  const v1::Run run = Start();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)));
  v1::WatchRunRequest request;
  request.set_id(run.id());
  const auto stream = stub_->WatchRun(&context, request);
  v1::Run seen;
  ASSERT_TRUE(stream->Read(&seen));
  EXPECT_EQ(seen.state(), v1::RUN_STATE_QUEUED);
  Conclude(run.id(), v1::RUN_STATE_FAILED);
  ASSERT_TRUE(stream->Read(&seen));
  EXPECT_EQ(seen.state(), v1::RUN_STATE_FAILED);
  EXPECT_FALSE(stream->Read(&seen));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(RunServiceTest, ALogOfManyPagesComesWholeInOrderAndEndsWithTheRun) {
  const v1::Run run = Start();
  Write(run.id(), 1000);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(30)));
  v1::RunLogRequest request;
  request.set_id(run.id());
  request.set_follow(true);
  const auto stream = stub_->RunLog(&context, request);
  v1::RunLogEntry entry;
  for (uint64_t line = 1; line <= 1000; ++line) {
    ASSERT_TRUE(stream->Read(&entry));
    ASSERT_EQ(entry.output().first_line(), line);
  }
  Conclude(run.id(), v1::RUN_STATE_SUCCEEDED);
  EXPECT_FALSE(stream->Read(&entry));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(RunServiceTest, RunsAndMissedSlotsAreOneListByPages) {
  const absl::Time slot = absl::FromUnixSeconds(1'800'000'000);
  JobDecision decision;
  decision.row.name = "tidy";
  decision.row.decided_until = slot;
  for (int i = 0; i < 3; ++i) {
    const absl::Time at = slot + absl::Minutes(2 * i);
    decision.runs.push_back({.id = RunId("tidy", at), .job = "tidy", .slot = at, .due_at = at});
    const absl::Time missed = at + absl::Minutes(1);
    decision.missed.push_back({.id = RunId("tidy", missed),
                               .job = "tidy",
                               .slot = missed,
                               .last_slot = missed,
                               .slots = 1,
                               .why = "a test",
                               .recorded_at = slot});
  }
  ASSERT_OK(plane_.store().runs().Decide({}, {decision}, slot));
  std::vector<int64_t> minutes;
  v1::ListRunsRequest request;
  request.set_page_size(4);
  do {
    v1::ListRunsResponse page;
    ASSERT_TRUE(Call(&v1::RunService::Stub::ListRuns, request, page).ok());
    for (const v1::Run& run : page.items()) {
      minutes.push_back(absl::ToInt64Minutes(wire::FromProto(run.slot()) - slot));
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(minutes, ElementsAre(5, 4, 3, 2, 1, 0));
  request.add_state(v1::RUN_STATE_MISSED);
  v1::ListRunsResponse missed;
  ASSERT_TRUE(Call(&v1::RunService::Stub::ListRuns, request, missed).ok());
  EXPECT_EQ(missed.items_size(), 3);
}

TEST_F(RunServiceTest, AListRefusesWhatIsNoPrefixNoStateAndNoPage) {
  v1::ListRunsResponse response;
  v1::ListRunsRequest prefix;
  prefix.set_id_prefix("%");
  EXPECT_EQ(Call(&v1::RunService::Stub::ListRuns, prefix, response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  v1::ListRunsRequest state;
  state.add_state(static_cast<v1::RunState>(99));
  EXPECT_EQ(Call(&v1::RunService::Stub::ListRuns, state, response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  v1::ListRunsRequest page;
  page.set_page_token("x");
  EXPECT_EQ(Call(&v1::RunService::Stub::ListRuns, page, response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(RunServiceTest, APauseIsShownAndHasAnEndThatIsToCome) {
  v1::PauseJobRequest pause;
  pause.set_job("tidy");
  *pause.mutable_until() = wire::ToProto(plane_.clock().Now() - absl::Seconds(1));
  v1::PauseJobResponse paused;
  EXPECT_EQ(Call(&v1::RunService::Stub::PauseJob, pause, paused).error_code(),
            StatusCode::INVALID_ARGUMENT);
  *pause.mutable_until() = wire::ToProto(plane_.clock().Now() + absl::Hours(1));
  ASSERT_TRUE(Call(&v1::RunService::Stub::PauseJob, pause, paused).ok());
  EXPECT_EQ(Call(&v1::RunService::Stub::PauseJob, pause, paused).error_code(),
            StatusCode::FAILED_PRECONDITION);
  // Known to the list once the leader knows the job.
  JobDecision decision;
  decision.row.name = "tidy";
  decision.row.decided_until = plane_.clock().Now();
  ASSERT_OK(plane_.store().runs().Decide({}, {decision}, plane_.clock().Now()));
  v1::ListJobsResponse jobs;
  ASSERT_TRUE(Call(&v1::RunService::Stub::ListJobs, v1::ListJobsRequest(), jobs).ok());
  ASSERT_EQ(jobs.items_size(), 1);
  EXPECT_TRUE(jobs.items(0).paused());
  EXPECT_TRUE(jobs.items(0).has_paused_until());
  ASSERT_EQ(jobs.items(0).next_size(), 5);
  EXPECT_THAT(jobs.items(0).next(0).missed(), HasSubstr("paused"));
  v1::ResumeJobRequest resume;
  resume.set_job("tidy");
  v1::ResumeJobResponse resumed;
  ASSERT_TRUE(Call(&v1::RunService::Stub::ResumeJob, resume, resumed).ok());
  EXPECT_EQ(Call(&v1::RunService::Stub::ResumeJob, resume, resumed).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(RunServiceTest, ABackfillTakesSlotsThatWentByAndNotTooMany) {
  const absl::Time until = plane_.clock().Now();
  v1::BackfillRequest request;
  request.set_job("tidy");
  *request.mutable_from() = wire::ToProto(until - absl::Minutes(10));
  *request.mutable_until() = wire::ToProto(until);
  v1::BackfillResponse response;
  ASSERT_TRUE(Call(&v1::RunService::Stub::Backfill, request, response).ok());
  EXPECT_EQ(response.items_size(), 10);
  response.Clear();
  ASSERT_TRUE(Call(&v1::RunService::Stub::Backfill, request, response).ok());
  EXPECT_EQ(response.items_size(), 0) << "they have a run already";
  *request.mutable_until() = wire::ToProto(until + absl::Hours(1));
  EXPECT_EQ(Call(&v1::RunService::Stub::Backfill, request, response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  *request.mutable_until() = wire::ToProto(until);
  request.mutable_from()->set_seconds(std::numeric_limits<int64_t>::min());
  EXPECT_EQ(Call(&v1::RunService::Stub::Backfill, request, response).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  *request.mutable_from() = wire::ToProto(until);
  *request.mutable_until() = wire::ToProto(until - absl::Hours(1));
  ASSERT_TRUE(Call(&v1::RunService::Stub::Backfill, request, response).ok());
  EXPECT_EQ(response.items_size(), 0) << "nothing lies between";
}

}  // namespace
}  // namespace muster::control
