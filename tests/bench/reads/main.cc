// reads_bench: how long what people ask takes, with as many states as a large fleet has: over the
// real TLS listener, next to the store's own read of the same rows. And what those who watch cost,
// those included that take nothing.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <optional>

#include <absl/synchronization/blocking_counter.h>

#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/state_service.h"
#include "control-plane/store/observations.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/exec/threads.h"
#include "lib/program/program.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "tests/bench/lib/checks.h"
#include "tests/bench/lib/cluster.h"
#include "tests/bench/lib/enrol.h"
#include "tests/bench/lib/http_result.h"
#include "tests/bench/lib/must.h"
#include "tests/bench/lib/options.h"
#include "tests/bench/lib/quantile.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {
namespace {

struct Options {
  uint32_t agents = 10'000;
  uint32_t checks = 50;
  uint32_t failing_one_in = 1000;
  uint32_t watchers = 50;
  uint32_t idle_watchers = 8;
  uint32_t changes = 200;
  uint32_t times = 100;
  std::string store = "sqlite";
};

int ReadOptions(int argc, char** argv, Options& options) {
  CLI::App app{"reads_bench: how long reads take with the states of a large fleet"};
  app.add_option("--agents", options.agents)->capture_default_str();
  app.add_option("--checks", options.checks, "of each agent")->capture_default_str();
  app.add_option("--failing-one-in", options.failing_one_in, "states")->capture_default_str();
  app.add_option("--watchers", options.watchers, "of one check of all agents")
      ->capture_default_str();
  app.add_option("--idle-watchers", options.idle_watchers, "of everything, that read nothing")
      ->capture_default_str();
  app.add_option("--changes", options.changes, "that watchers see")->capture_default_str();
  app.add_option("--times", options.times, "that each read is done")->capture_default_str();
  AddStore(app, options.store);
  return ReadCommandLine(app, argc, argv);
}

constexpr uint32_t kStreamsAnIdentity = 32;
constexpr absl::Duration kEvery = absl::Seconds(10);
constexpr int kRoundsADay = 24 * 360;

std::string AgentName(uint32_t number) { return fmt::format("agent-{:05}", number); }

class Scene {
 public:
  explicit Scene(const Options& options)
      : options_(options),
        cluster_(options.store == "sqlite" ? Backend::kSqlite : Backend::kPostgres),
        gate_(std::in_place, store().identity(), clock_, control::GateOptions{}),
        service_(std::in_place, store(), *gate_, clock_) {
    ApplyChecks(store(), options.checks, kEvery);
    const absl::Time now = clock_.Now();
    Must(store().history().MakeDays(now - absl::Hours(48), now + absl::Hours(24)).status(),
         "make history's days");
    logs_.resize(options.agents);
    FillStates();
    FillHistory();
    cluster_.Serve(*service_);
  }
  ~Scene() {
    cluster_.StopServing();
    service_.reset();
    gate_.reset();
  }

  // A client of an identity of its own.
  std::unique_ptr<v1::StateService::Stub> Client() {
    const std::string name = fmt::format("viewer-{}", ++clients_);
    return v1::StateService::NewStub(net::OpenChannel(
        cluster_.address(), Must(AddViewer(store(), cluster_.authority(), name), "add a viewer")));
  }

  void Walk(v1::StateService::Stub& client) {
    std::vector<absl::Duration> pages;
    v1::ListStatesRequest request;
    uint64_t items = 0;
    do {
      const v1::ListStatesResponse page = Listed(client, request, pages);
      items += static_cast<uint64_t>(page.items_size());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    if (items != States()) Fail(fmt::format("{} states of {} came", items, States()));
    absl::Duration all;
    for (const absl::Duration took : pages) all += took;
    Print(fmt::format("all {} states, page by page ({:.1f} s in all)", items,
                      absl::ToDoubleSeconds(all)),
          pages,
          StoreAlone({}, static_cast<uint32_t>(items / static_cast<uint64_t>(pages.size()))));
  }

  void Reads(v1::StateService::Stub& client) {
    Repeat(client, "what is CRITICAL, anywhere",
           [](uint32_t, auto& request) { request.add_status(v1::CHECK_STATUS_CRITICAL); });
    Repeat(client, "one agent", [&](uint32_t i, auto& request) { request.set_agent(Agent(i)); });
    Repeat(client, "one check, the first page of it", [&](uint32_t i, auto& request) {
      request.set_check(CheckName(1 + i % options_.checks));
    });
    Repeat(client, "one check of one agent", [&](uint32_t i, auto& request) {
      request.set_agent(Agent(i));
      request.set_check(CheckName(1 + i % options_.checks));
    });
  }

  void History(v1::StateService::Stub& client, absl::Duration back) {
    std::vector<absl::Duration> took;
    uint64_t entries = 0;
    for (uint32_t i = 0; i < std::max(1U, options_.times / 10); ++i) {
      v1::HistoryRequest request;
      request.set_agent(AgentName(0));
      request.set_check(CheckName(1 + i % options_.checks));
      *request.mutable_since() = wire::ToProto(history_until_ - back);
      grpc::ClientContext context;
      const absl::Time began = clock_.Now();
      const auto stream = client.History(&context, request);
      entries = 0;
      for (v1::HistoryEntry entry; stream->Read(&entry);) ++entries;
      if (!stream->Finish().ok()) Fail("history failed");
      took.push_back(clock_.Now() - began);
    }
    Print(fmt::format("history of one check, {} entries", entries), took, std::nullopt);
  }

  // From the commit of a change to each watcher's sight of it.
  void Watch() {
    std::vector<std::unique_ptr<v1::StateService::Stub>> clients;
    std::vector<std::vector<absl::Duration>> lags(options_.watchers);
    absl::BlockingCounter synced(static_cast<int>(options_.watchers));
    const absl::Time began = clock_.Now();
    absl::Duration all_synced;
    Usage before;
    {
      std::vector<exec::Thread> threads;
      for (uint32_t i = 0; i < options_.watchers; ++i) {
        if (i % kStreamsAnIdentity == 0) clients.push_back(Client());
        threads.emplace_back(
            "watcher", [&, client = clients.back().get(), i] { Follow(*client, lags[i], synced); });
      }
      synced.Wait();
      all_synced = clock_.Now() - began;
      before = UsageNow();
      for (uint32_t i = 0; i < options_.changes; ++i) {
        Change(i);
        absl::SleepFor(absl::Milliseconds(20));
      }
    }
    const Usage used = UsageNow() - before;
    std::vector<absl::Duration> all;
    for (const auto& one : lags) all.insert(all.end(), one.begin(), one.end());
    std::sort(all.begin(), all.end());
    std::cout
        << fmt::format(
               "  {} watchers of one check: the {} states each of them begins with after {:.1f} "
               "s;\n"
               "    commit to seen  p50 {:.1f} ms, p99 {:.1f} ms, most {:.1f} ms;  CPU a change "
               "{:.1f} ms, readers included\n",
               options_.watchers, options_.agents, absl::ToDoubleSeconds(all_synced),
               Milliseconds(all, 0.5), Milliseconds(all, 0.99), Milliseconds(all, 1),
               absl::ToDoubleMilliseconds(used.cpu) / options_.changes)
        << std::flush;
  }

  // Readers that take nothing: what they hold, and what others notice.
  void Idle(v1::StateService::Stub& client) {
    const uint64_t before = UsageOf(getpid()).resident_bytes;
    std::vector<std::unique_ptr<v1::StateService::Stub>> clients;
    std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
    std::vector<std::unique_ptr<grpc::ClientReader<v1::WatchEvent>>> watches;
    std::vector<std::unique_ptr<grpc::ClientReader<v1::HistoryEntry>>> histories;
    for (uint32_t i = 0; i < options_.idle_watchers; ++i) {
      if (i % kStreamsAnIdentity == 0) clients.push_back(Client());
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      watches.push_back(clients.back()->Watch(contexts.back().get(), v1::WatchRequest()));
      v1::HistoryRequest history;
      history.set_agent(AgentName(0));
      history.set_check(CheckName(1));
      if (i % 2 == 0) continue;
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      histories.push_back(clients.back()->History(contexts.back().get(), history));
    }
    absl::SleepFor(absl::Seconds(3));
    const uint64_t after = UsageOf(getpid()).resident_bytes;
    std::cout << fmt::format(
        "  {} watchers of everything and {} readers of a day's history that "
        "take nothing: {:+.1f} MiB; beside them\n",
        watches.size(), histories.size(),
        (static_cast<double>(after) - static_cast<double>(before)) / (1 << 20));
    History(client, absl::Hours(1));
    for (const auto& context : contexts) context->TryCancel();
    for (const auto& watch : watches) watch->Finish();
    for (const auto& history : histories) history->Finish();
  }

  uint64_t States() const { return uint64_t{options_.agents} * options_.checks; }

 private:
  struct Log {
    uint64_t session = 0;
    uint64_t committed = 0;
  };

  control::Store& store() { return cluster_.store(); }
  std::string Agent(uint32_t i) const { return AgentName(i * 7919 % options_.agents); }

  control::CheckStateRow State(uint32_t agent, uint32_t check, v1::CheckStatus status,
                               absl::Time at) const {
    control::CheckStateRow row;
    row.agent = AgentName(agent);
    row.check_id = check;
    row.status = row.hard_status = status;
    row.since = row.observed_at = at;
    row.latency = absl::Milliseconds(2);
    row.summary = HttpSummary(status);
    v1::CheckResult result;
    result.set_status(status);
    TellHttp(row.latency, result);
    *row.detail.mutable_last() = result.detail();
    return row;
  }

  // One result of each check, at that time.
  control::BatchCommit Batch(uint32_t agent, absl::Time at) {
    Log& log = logs_[agent];
    std::vector<v1::Record> records;
    std::vector<control::Observation> seen;
    for (uint32_t check = 1; check <= options_.checks; ++check) {
      v1::Record& record = records.emplace_back();
      record.set_sequence(log.committed + check);
      v1::CheckResult& result = *record.mutable_result();
      result.set_check_id(check);
      result.set_status(v1::CHECK_STATUS_OK);
      *result.mutable_observed_at() = wire::ToProto(at);
      *result.mutable_latency() = wire::ToProto(absl::Milliseconds(2));
      seen.push_back({check, at, absl::Milliseconds(2)});
    }
    control::BatchCommit batch;
    batch.agent = AgentName(agent);
    batch.session_epoch = log.session;
    batch.log_epoch = "log";
    batch.expected_committed = log.committed;
    batch.first_sequence = log.committed + 1;
    batch.last_sequence = log.committed += options_.checks;
    batch.first_observed_at = batch.filed_at = at;
    batch.results = options_.checks;
    batch.payload = Must(wire::EncodeBatch(records), "encode a batch").payload;
    batch.observations = control::PackObservations(seen);
    return batch;
  }

  void Commit(std::vector<control::BatchCommit>& batches) {
    for (const Status& outcome : Must(store().history().Commit(batches, clock_.Now()), "commit")) {
      Must(outcome, "commit a batch");
    }
    batches.clear();
  }

  void FillStates() {
    std::vector<control::BatchCommit> batches;
    uint64_t made = 0;
    for (uint32_t agent = 0; agent < options_.agents; ++agent) {
      const std::string name = AgentName(agent);
      cluster_.AddAgent(name);
      logs_[agent].session = Must(store().sessions().Open({.agent = name,
                                                           .replica = "r-bench",
                                                           .version = "1",
                                                           .boot_id = "boot",
                                                           .log_epoch = "log",
                                                           .now = clock_.Now()}),
                                  "open a session")
                                 .epoch;
      control::BatchCommit batch = Batch(agent, clock_.Now() - absl::Hours(25));
      for (uint32_t check = 1; check <= options_.checks; ++check) {
        const bool fails = ++made % options_.failing_one_in == 0;
        batch.states.push_back(State(
            agent, check, fails ? v1::CHECK_STATUS_CRITICAL : v1::CHECK_STATUS_OK, batch.filed_at));
      }
      batches.push_back(std::move(batch));
      if (batches.size() == 64) Commit(batches);
    }
    if (!batches.empty()) Commit(batches);
  }

  // A day of the first agent.
  void FillHistory() {
    history_until_ = clock_.Now();
    std::vector<control::BatchCommit> batches;
    for (int round = kRoundsADay; round > 0; --round) {
      batches.push_back(Batch(0, history_until_ - round * kEvery));
      if (batches.size() == 64 || round == 1) Commit(batches);
    }
  }

  v1::ListStatesResponse Listed(v1::StateService::Stub& client,
                                const v1::ListStatesRequest& request,
                                std::vector<absl::Duration>& took) {
    v1::ListStatesResponse response;
    grpc::ClientContext context;
    const absl::Time began = clock_.Now();
    const grpc::Status status = client.ListStates(&context, request, &response);
    took.push_back(clock_.Now() - began);
    if (!status.ok()) Fail("list states: " + status.error_message());
    return response;
  }

  void Repeat(v1::StateService::Stub& client, std::string_view what,
              const std::function<void(uint32_t, v1::ListStatesRequest&)>& ask) {
    std::vector<absl::Duration> took;
    int items = 0;
    v1::ListStatesRequest last;
    for (uint32_t i = 0; i < options_.times; ++i) {
      v1::ListStatesRequest request;
      ask(i, request);
      items = Listed(client, request, took).items_size();
      last = std::move(request);
    }
    control::StateFilter filter{.agent = last.agent()};
    if (!last.check().empty())
      filter.check_id = Must(store().specs().CheckId(last.check()), "number a check");
    for (const int status : last.status())
      filter.status.push_back(static_cast<v1::CheckStatus>(status));
    Print(fmt::format("{}, {} states", what, items), took,
          StoreAlone(filter, static_cast<uint32_t>(std::max(items, 1))));
  }

  std::vector<absl::Duration> StoreAlone(const control::StateFilter& filter, uint32_t limit) {
    std::vector<absl::Duration> took;
    for (uint32_t i = 0; i < options_.times; ++i) {
      const absl::Time began = clock_.Now();
      Must(store().history().ListStates(filter, "", 0, limit).status(), "read states");
      took.push_back(clock_.Now() - began);
    }
    return took;
  }

  static void Print(std::string_view what, std::vector<absl::Duration> took,
                    std::optional<std::vector<absl::Duration>> alone) {
    std::sort(took.begin(), took.end());
    std::cout << fmt::format("  {}: p50 {:.2f} ms, p99 {:.2f} ms", what, Milliseconds(took, 0.5),
                             Milliseconds(took, 0.99));
    if (alone.has_value()) {
      std::sort(alone->begin(), alone->end());
      std::cout << fmt::format("; the store alone p50 {:.2f} ms", Milliseconds(*alone, 0.5));
    }
    std::cout << std::endl;
  }

  void Follow(v1::StateService::Stub& client, std::vector<absl::Duration>& lags,
              absl::BlockingCounter& synced) {
    v1::WatchRequest request;
    request.set_check(CheckName(1));
    grpc::ClientContext context;
    const auto stream = client.Watch(&context, request);
    uint32_t states = 0;
    bool all_there = false;
    for (v1::WatchEvent event; lags.size() < options_.changes && stream->Read(&event);) {
      if (event.synced()) {
        if (states != options_.agents) Fail(fmt::format("a watcher began with {} states", states));
        all_there = true;
        synced.DecrementCount();
      } else if (!all_there) {
        ++states;
      } else {
        // Its own time is in its summary.
        lags.push_back(clock_.Now() - absl::FromUnixMicros(std::stoll(event.state().summary())));
      }
    }
    if (lags.size() < options_.changes) Fail("a watcher's stream ended early");
    context.TryCancel();
    stream->Finish();
  }

  // Another agent each time: every step is seen by every watcher.
  void Change(uint32_t i) {
    const uint32_t agent = i % options_.agents;
    std::vector<control::BatchCommit> batches;
    const absl::Time now = clock_.Now();
    batches.push_back(Batch(agent, now));
    control::CheckStateRow state = State(agent, 1, v1::CHECK_STATUS_WARNING, now);
    state.summary = fmt::format("{}", absl::ToUnixMicros(now));
    batches[0].states.push_back(std::move(state));
    Commit(batches);
    service_->StatesChanged();
  }

  const Options options_;
  const Clock& clock_ = SystemClock();
  Cluster cluster_;
  std::optional<control::Gate> gate_;
  std::optional<control::StateService> service_;
  std::vector<Log> logs_;
  absl::Time history_until_;
  int clients_ = 0;
};

int Main(int argc, char** argv) {
  Options options;
  if (const int code = ReadOptions(argc, argv, options); code >= 0) return code;
  RaiseDescriptorLimit();
  Scene scene(options);
  std::cout << fmt::format("{} states of {} agents, one in {} CRITICAL, {}:\n", scene.States(),
                           options.agents, options.failing_one_in, options.store);
  const auto client = scene.Client();
  scene.Walk(*client);
  scene.Reads(*client);
  scene.History(*client, absl::Hours(1));
  scene.History(*client, absl::Hours(24));
  scene.Watch();
  scene.Idle(*client);
  return 0;
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) {
  muster::LeaveLockOrderToTests();
  return muster::bench::Main(argc, argv);
}
