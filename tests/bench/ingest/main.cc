// ingest_bench: durable results a second, acknowledged after commit, into SQLite or PostgreSQL,
// next to what the same transport and the same database give without the product's code.
//
// Every run is a process of its own, which holds the load generator, the server and SQLite, or
// starts a PostgreSQL server beside it.
#include <CLI/CLI.hpp>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <thread>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/tls.h"
#include "lib/program/program.h"
#include "lib/testing/servers.h"
#include "tests/bench/ingest/feed.h"
#include "tests/bench/ingest/fleet.h"
#include "tests/bench/ingest/report.h"
#include "tests/bench/ingest/subject.h"
#include "tests/bench/lib/cluster.h"
#include "tests/bench/lib/must.h"
#include "tests/bench/lib/options.h"
#include "tests/bench/lib/quantile.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {
namespace {

struct Options {
  uint32_t agents = 100;
  std::string batch = "128";
  uint32_t checks = 50;
  double every = 10;  // seconds
  double seconds = 10;
  double warm_up = 1;  // seconds
  double rate = 0;     // results a second; 0: as many as there is credit for
  uint32_t runs = 3;
  std::string part;  // empty: both, alternating
  std::string store = "sqlite";
  bool json = false;
};

Options ReadOptions(int argc, char** argv, int& exit_code) {
  Options options;
  CLI::App app{"ingest_bench: durable results a second, next to the raw ceiling in the same run"};
  app.add_option("--agents", options.agents, "streams, each with its own certificate and channel")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "results a batch, 1 to 2048, or all: 1, 16 and 128")
      ->capture_default_str();
  app.add_option("--checks", options.checks, "checks an agent")
      ->check(CLI::Range(1, 999))
      ->capture_default_str();
  app.add_option("--every", options.every, "seconds from one result of a check to its next")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "how long a run measures")->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "seconds before that")->capture_default_str();
  app.add_option("--rate", options.rate,
                 "results a second that fall due, whatever the server does; 0 is closed loop")
      ->capture_default_str();
  app.add_option("--runs", options.runs, "of each part, alternating; medians are shown")
      ->check(CLI::Range(1, 99))
      ->capture_default_str();
  app.add_option("--part", options.part, "one run of this part alone, in this process")
      ->check(CLI::IsMember({"product", "ceiling"}));
  AddStore(app, options.store);
  app.add_flag("--json", options.json, "one JSON object instead of a table");
  exit_code = ReadCommandLine(app, argc, argv);
  return options;
}

std::vector<size_t> Batches(const Options& options) {
  if (options.batch == "all") return {1, 16, 128};
  const size_t batch = std::strtoul(options.batch.c_str(), nullptr, 10);
  if (batch < 1 || batch > 2048) Fail("--batch is 1 to 2048, or all");
  return {batch};
}

void TakeSample(const Sample& sample, Report& report) {
  const double seconds = absl::ToDoubleSeconds(sample.took);
  const double cpu = absl::ToDoubleSeconds(sample.used.cpu);
  const auto results = static_cast<double>(sample.results);
  report.results_a_second = results / seconds;
  report.batches_a_second = static_cast<double>(sample.batches) / seconds;
  report.ack_p50_ms = Milliseconds(sample.waits, 0.5);
  report.ack_p99_ms = Milliseconds(sample.waits, 0.99);
  report.cpu_seconds_a_million = results > 0 ? cpu / results * 1e6 : 0;
  report.cores = cpu / seconds;
  for (const auto& [name, used] : sample.used.threads) {
    report.thread_cores[name] = absl::ToDoubleSeconds(used) / seconds;
  }
}

void TakeStored(const Stored& stored, uint64_t database_bytes, Report& report) {
  const auto results = static_cast<double>(stored.results);
  if (stored.results == 0) Fail("nothing was stored");
  report.stored_results = stored.results;
  report.bytes_a_result = static_cast<double>(database_bytes) / results;
  report.state_rows_a_result = static_cast<double>(stored.state_rows) / results;
  report.transitions_a_result = static_cast<double>(stored.transitions) / results;
  report.batches_a_commit =
      results / static_cast<double>(report.batch) / static_cast<double>(stored.commits);
}

// One run of one part, in this process.
Report RunPart(const Options& options) {
  const absl::Duration every = absl::Seconds(options.every);
  Report report;
  report.part = options.part;
  report.batch = Batches(options).front();
  Cluster cluster(options.store == "sqlite" ? Backend::kSqlite : Backend::kPostgres);
  const auto subject = options.part == "product" ? MakeProduct(cluster, options.checks, every)
                                                 : MakeCeiling(cluster);
  FeedOptions feed_options{.every = every, .batch = report.batch};
  for (uint32_t id = 1; id <= options.checks; ++id) feed_options.check_ids.push_back(id);
  Feed feed(std::move(feed_options), SystemClock().Now());
  FleetOptions fleet_options;
  fleet_options.batches_a_second = options.rate / static_cast<double>(report.batch);
  for (uint32_t i = 0; i < options.agents; ++i) {
    fleet_options.names.push_back(fmt::format("agent-{:05}", i));
    fleet_options.identities.push_back(cluster.AddAgent(fleet_options.names.back()));
  }
  cluster.Serve(subject->service());
  fleet_options.address = cluster.address();
  Fleet fleet(std::move(fleet_options), feed);
  fleet.Connect();
  TakeSample(fleet.Run(absl::Seconds(options.warm_up), absl::Seconds(options.seconds)), report);
  const std::vector<Told> told = fleet.Finish();
  report.peak_resident_mib = static_cast<double>(PeakResidentBytes()) / (1 << 20);
  const uint64_t commits = subject->commits();
  Stored stored = subject->Verify(told, feed);
  stored.commits = commits;
  cluster.StopServing();
  TakeStored(stored, subject->Close(), report);
  return report;
}

// The same in a process of its own, so that no run inherits another's memory.
Report RunAlone(const Options& options, const std::string& part, size_t batch) {
  const auto text = [](double value) { return fmt::format("{}", value); };
  const testing::ProgramResult ran = testing::RunProgram(
      {"/proc/self/exe",
       "--part",
       part,
       "--batch",
       fmt::format("{}", batch),
       "--json",
       "--agents",
       fmt::format("{}", options.agents),
       "--checks",
       fmt::format("{}", options.checks),
       "--every",
       text(options.every),
       "--seconds",
       text(options.seconds),
       "--warm-up",
       text(options.warm_up),
       "--rate",
       text(options.rate),
       "--store",
       options.store},
      "", {}, absl::Seconds(options.seconds + options.warm_up) + absl::Minutes(5));
  if (ran.exit_code != 0) Fail(fmt::format("the {} failed: {}", part, ran.err));
  return nlohmann::json::parse(ran.out).get<Report>();
}

struct Pair {
  Report product;
  Report ceiling;
};

Pair RunPair(const Options& options, size_t batch) {
  std::vector<Report> products;
  std::vector<Report> ceilings;
  for (uint32_t i = 0; i < options.runs; ++i) {
    products.push_back(RunAlone(options, "product", batch));
    ceilings.push_back(RunAlone(options, "ceiling", batch));
  }
  return {Median(products), Median(ceilings)};
}

void SayHow(const Options& options) {
  const std::string folder = std::getenv("TMPDIR");
  const bool sqlite = options.store == "sqlite";
  std::cout << fmt::format(
      "Results acknowledged after commit, {} on {} {}; {} cores, which the load\ngenerator shares: "
      "each run is one process with generator, server and {}. "
      "{} agents, {} checks\neach {} s, {}; medians of {} runs of {} s a part, alternating.\n",
      sqlite ? "SQLite with synchronous=FULL" : "PostgreSQL 15 with fsync", FileSystemOf(folder),
      FileSystemOf(folder) == "tmpfs" ? "(memory: a commit costs nothing)" : "",
      std::thread::hardware_concurrency(), sqlite ? "database" : "a PostgreSQL server beside it",
      options.agents, options.checks, options.every,
      options.rate > 0 ? fmt::format("{} results fall due a second", options.rate)
                       : "as fast as credit allows",
      options.runs, options.seconds);
}

void RunAll(const Options& options) {
  nlohmann::json all = nlohmann::json::array();
  if (!options.json) {
    SayHow(options);
    std::cout << TableHead() << std::endl;
  }
  for (const size_t batch : Batches(options)) {
    const auto [product, ceiling] = RunPair(options, batch);
    const double ratio = product.results_a_second / ceiling.results_a_second;
    all.push_back({{"product", product}, {"ceiling", ceiling}, {"ratio", ratio}});
    if (options.json) continue;
    std::cout << TableLine(ceiling, ceiling.results_a_second) << "\n"
              << TableLine(product, ceiling.results_a_second) << "\n"
              << ThreadLine(ceiling) << "\n"
              << ThreadLine(product) << std::endl;
  }
  if (options.json) std::cout << nlohmann::json{{"ingest", all}}.dump() << "\n";
}

int Run(int argc, char** argv) {
  LeaveLockOrderToTests();
  net::PrepareTls();
  int exit_code = 0;
  const Options options = ReadOptions(argc, argv, exit_code);
  if (exit_code >= 0) return exit_code;
  StartLog("ingest_bench", LogLevel::kWarning);
  RaiseDescriptorLimit();
  // The database stands where the bench is started, unless it is told another place.
  setenv("TMPDIR", std::filesystem::current_path().c_str(), 0);
  if (options.part.empty()) {
    RunAll(options);
    return 0;
  }
  const Report report = RunPart(options);
  if (options.json) {
    std::cout << nlohmann::json(report).dump() << "\n";
  } else {
    std::cout << TableHead() << "\n" << TableLine(report, 0) << "\n" << ThreadLine(report) << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) { return muster::bench::Run(argc, argv); }
