// dispatch_bench: how late runs are given to agents when very many jobs come due within a minute,
// next to what it takes to write the same rows without deciding anything.
//
// The leader's loop runs as it does in muster-control, over a real database. The agents are played:
// what is on their hands is told as begun and ended in the next round, through the same commits
// that a session makes.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <iostream>
#include <map>

#include <absl/synchronization/notification.h>

#include "control-plane/loops/job_loop.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/program/program.h"
#include "lib/wire/time.h"
#include "tests/bench/lib/cluster.h"
#include "tests/bench/lib/must.h"
#include "tests/bench/lib/options.h"
#include "tests/bench/lib/quantile.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {
namespace {

using control::JobLoop;
using control::RunRow;

struct Options {
  uint32_t jobs = 100'000;
  uint32_t agents = 1000;
  uint32_t per_host = 100;
  double within = 60;  // seconds
  std::string store = "sqlite";
};

constexpr absl::Duration kTickEvery = absl::Milliseconds(500);

int ReadOptions(int argc, char** argv, Options& options) {
  CLI::App app{"dispatch_bench: the lag of runs that come due together"};
  app.add_option("--jobs", options.jobs, "each due once")->capture_default_str();
  app.add_option("--agents", options.agents, "the jobs are spread over them")
      ->capture_default_str();
  app.add_option("--per-host", options.per_host, "runs at once on one agent")
      ->capture_default_str();
  app.add_option("--within", options.within,
                 "seconds over which the jobs come due, by their jitter")
      ->capture_default_str();
  AddStore(app, options.store);
  return ReadCommandLine(app, argc, argv);
}

void Wait(absl::Duration duration) {
  absl::Notification never;
  never.WaitForNotificationWithTimeout(duration);
}

class Scene {
 public:
  explicit Scene(const Options& options)
      : options_(options),
        cluster_(options.store == "sqlite" ? Backend::kSqlite : Backend::kPostgres) {
    for (uint32_t i = 0; i < options.agents; ++i) Connect(fmt::format("agent-{:05}", i));
  }

  // Due from `at` on.
  void Apply(absl::Time at) {
    std::vector<v1::Document> documents;
    for (uint32_t i = 0; i < options_.jobs; ++i) {
      v1::Document& document = documents.emplace_back();
      document.set_api_version("muster/v1");
      document.set_kind("Job");
      document.mutable_metadata()->set_name(fmt::format("job-{:06}", i));
      v1::JobSpec& job = *document.mutable_job();
      (*job.mutable_agents())["agent"] = fmt::format("agent-{:05}", i % options_.agents);
      job.mutable_schedule()->set_at(TimeText(at));
      *job.mutable_schedule()->mutable_jitter() = wire::ToProto(absl::Seconds(options_.within));
      *job.mutable_schedule()->mutable_catch_up() = wire::ToProto(absl::Hours(1));
      *job.mutable_deadline() = wire::ToProto(absl::Minutes(1));
      job.mutable_command()->add_argv("/bin/true");
      if (documents.size() == 5000 || i + 1 == options_.jobs) {
        Must(store().specs().Apply(documents, Note()).status(), "apply the jobs");
        documents.clear();
      }
    }
  }

  // Until every run is over.
  void Run() {
    control::JobLoopOptions loop_options;
    loop_options.runs_per_host = options_.per_host;
    loop_options.on_over = [this](v1::RunState state) { ++ends_[state]; };
    JobLoop loop(store(), {}, std::move(loop_options));
    uint32_t over = 0;
    while (over < options_.jobs) {
      const absl::Time began = clock_.Now();
      Must(loop.Tick(began), "tick");
      longest_tick_ = std::max(longest_tick_, clock_.Now() - began);
      PlayAgents();
      over = 0;
      for (const auto& [state, count] : ends_) over += count;
      Wait(kTickEvery - (clock_.Now() - began));
    }
  }

  void Report(absl::Duration took, Usage used, absl::Duration limit) {
    std::sort(lags_.begin(), lags_.end());
    std::cout << fmt::format(
        "{} jobs due within {} s, {} agents with {} at once, {}: all over after {:.1f} s\n"
        "  from due to assigned  p50 {:.0f} ms, p99 {:.0f} ms, most {:.0f} ms\n"
        "  longest look of the leader  {:.2f} s;  CPU  {:.1f} s, {:.0f} µs a run\n"
        "  the same rows written and changed twice without deciding  {:.1f} s\n",
        options_.jobs, options_.within, options_.agents, options_.per_host, options_.store,
        absl::ToDoubleSeconds(took), Milliseconds(lags_, 0.5), Milliseconds(lags_, 0.99),
        Milliseconds(lags_, 1), absl::ToDoubleSeconds(longest_tick_),
        absl::ToDoubleSeconds(used.cpu),
        absl::ToDoubleMicroseconds(used.cpu) / static_cast<double>(options_.jobs),
        absl::ToDoubleSeconds(limit));
    if (ends_[v1::RUN_STATE_SUCCEEDED] != options_.jobs) Fail("not every run succeeded");
    if (lags_.size() != options_.jobs) Fail("a run was assigned twice, or never");
  }

  // As many rows as the runs took, inserted and changed twice in the same batches.
  absl::Duration Limit() {
    const absl::Time began = clock_.Now();
    Must(store().database().Write([](sql::Transaction& t) {
      return t.Execute("CREATE TABLE bench_rows (id TEXT PRIMARY KEY, phase BIGINT, body BYTEA)")
          .status();
    }),
         "make a table");
    for (const std::string_view sql :
         {"INSERT INTO bench_rows (id, phase, body) SELECT column1, column2, column3 FROM (",
          "UPDATE bench_rows SET phase = v.column2 + 1 FROM (",
          "UPDATE bench_rows SET phase = v.column2 + 2 FROM ("}) {
      for (uint32_t first = 0; first < options_.jobs; first += 2000) WriteRows(sql, first);
    }
    return clock_.Now() - began;
  }

 private:
  struct Log {
    uint64_t session = 0;
    uint64_t sequence = 0;
  };

  control::Store& store() { return cluster_.store(); }
  control::AuditNote Note() const {
    return {.actor = "admin/bench", .action = "bench", .at = clock_.Now()};
  }

  void Connect(const std::string& name) {
    cluster_.AddAgent(name);
    const auto session = Must(store().sessions().Open({.agent = name,
                                                       .replica = "r1",
                                                       .version = "1",
                                                       .boot_id = "boot",
                                                       .log_epoch = "log",
                                                       .now = clock_.Now()}),
                              "open a session");
    logs_[name].session = session.epoch;
  }

  static v1::RunEvent Event(const RunRow& run, absl::Time at) {
    v1::RunEvent event;
    event.set_run_id(run.id);
    event.set_fence(run.fence);
    *event.mutable_at() = wire::ToProto(at);
    return event;
  }

  // Each agent tells what it was given in one batch, many agents in one commit.
  void PlayAgents() {
    const absl::Time now = clock_.Now();
    std::map<std::string, control::BatchCommit> batches;
    for (const RunRow& run : Must(store().runs().OnHands(), "read what is on hands")) {
      lags_.push_back(run.assigned_at - run.due_at);
      control::BatchCommit& batch = batches[run.agent];
      v1::RunEvent started = Event(run, now);
      started.mutable_started()->set_what("/bin/true");
      v1::RunEvent ended = Event(run, now);
      ended.mutable_ended()->set_outcome(v1::RUN_OUTCOME_SUCCEEDED);
      ended.mutable_ended()->set_reason("exit code 0");
      batch.run_events.push_back(std::move(started));
      batch.run_events.push_back(std::move(ended));
    }
    std::vector<control::BatchCommit> commit;
    for (auto& [agent, batch] : batches) {
      Log& log = logs_.at(agent);
      batch.agent = agent;
      batch.session_epoch = log.session;
      batch.log_epoch = "log";
      batch.expected_committed = log.sequence;
      batch.first_sequence = log.sequence + 1;
      batch.last_sequence = log.sequence += batch.run_events.size();
      batch.first_observed_at = absl::InfiniteFuture();
      batch.filed_at = now;
      batch.payload = "payload";
      commit.push_back(std::move(batch));
      if (commit.size() == 64) Commit(commit);
    }
    if (!commit.empty()) Commit(commit);
  }

  void Commit(std::vector<control::BatchCommit>& batches) {
    const auto outcomes = Must(store().history().Commit(batches, clock_.Now()), "commit");
    for (const Status& outcome : outcomes) Must(outcome, "commit a batch");
    batches.clear();
  }

  void WriteRows(std::string_view sql, uint32_t first) {
    std::vector<std::string> ids;
    for (uint32_t i = first; i < std::min(first + 2000, options_.jobs); ++i)
      ids.push_back(fmt::format("00000000-0000-0000-0000-{:012}", i));
    const std::string body(120, 'b');
    std::vector<sql::Parameter> values;
    for (const std::string& id : ids) {
      values.emplace_back(std::string_view(id));
      values.emplace_back(int64_t{1});
      values.emplace_back(sql::Bytes{body});
    }
    const bool inserts = sql.starts_with("INSERT");
    Must(store().database().Write([&](sql::Transaction& t) {
      return t
          .ExecuteRows(sql, {3, values},
                       inserts ? ") AS v" : ") AS v WHERE bench_rows.id = v.column1")
          .status();
    }),
         "write rows");
  }

  const Options options_;
  const Clock& clock_ = SystemClock();
  Cluster cluster_;
  std::map<std::string, Log> logs_;
  std::map<v1::RunState, uint32_t> ends_;
  std::vector<absl::Duration> lags_;
  absl::Duration longest_tick_;
};

int Main(int argc, char** argv) {
  Options options;
  if (const int code = ReadOptions(argc, argv, options); code >= 0) return code;
  Scene scene(options);
  const Clock& clock = SystemClock();
  // Applying takes a while; they come due when it is done.
  const absl::Time at = absl::FromUnixSeconds(
      absl::ToUnixSeconds(clock.Now() + absl::Seconds(3) + absl::Milliseconds(options.jobs) / 2));
  scene.Apply(at);
  if (clock.Now() >= at) Fail("the jobs were due before they were applied");
  Wait(at - clock.Now() - absl::Seconds(1));
  const Usage before = UsageNow();
  scene.Run();
  const absl::Duration took = clock.Now() - at;
  scene.Report(took, UsageNow() - before, scene.Limit());
  return 0;
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) {
  muster::LeaveLockOrderToTests();
  return muster::bench::Main(argc, argv);
}
