#include "tests/bench/fleet/fleet.h"

#include <algorithm>
#include <functional>

#include "lib/testing/servers.h"
#include "tests/bench/lib/must.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {
namespace {

constexpr size_t kWheels = 2;
constexpr absl::Duration kLook = absl::Milliseconds(20);
constexpr absl::Duration kFlushJournal = absl::Seconds(1);
constexpr double kMiB = 1 << 20;

// What the fleet and the control plane use from here on.
class Meter {
 public:
  Meter(const Clock& clock, pid_t plane)
      : clock_(clock), plane_(plane), began_(clock.Uptime()), fleet_before_(UsageOf(getpid())) {
    if (plane_ != 0) plane_before_ = UsageOf(plane_);
  }
  double Seconds() const { return absl::ToDoubleSeconds(clock_.Uptime() - began_); }
  void Read(Cost& fleet, Cost& plane) const {
    fleet = Between(fleet_before_, UsageOf(getpid()));
    if (plane_ != 0) plane = Between(plane_before_, UsageOf(plane_));
  }

 private:
  Cost Between(const ProcessUsage& before, const ProcessUsage& after) const {
    return {absl::ToDoubleSeconds(after.cpu - before.cpu) / Seconds(),
            static_cast<double>(after.resident_bytes) / kMiB};
  }

  const Clock& clock_;
  const pid_t plane_;
  const absl::Duration began_;
  const ProcessUsage fleet_before_;
  ProcessUsage plane_before_;
};

}  // namespace

Fleet::Fleet(FleetOptions options, const Bundle& bundle, const std::atomic<bool>& stop)
    : options_(std::move(options)),
      clock_(SystemClock()),
      random_(SystemRandom()),
      stop_(stop),
      shared_{.servers = options_.servers,
              .failures = options_.failures,
              .log_bound = options_.log_bound,
              .learn_servers = options_.learn_servers,
              .most_dialling = options_.most_dialling,
              .clock = clock_,
              .random = *random_} {
  TrustRoots(bundle.roots_pem);
  if (options_.plane != 0) plane_bytes_before_ = UsageOf(options_.plane).resident_bytes;
  if (!options_.journal.empty()) {
    shared_.journal = Must(Journal::Open(options_.journal), "open the journal");
  }
  for (size_t i = 0; i < kWheels; ++i) wheels_.push_back(std::make_unique<Wheel>(clock_));
  for (size_t i = 0; i < options_.agents; ++i) {
    agents_.push_back(std::make_unique<SimAgent>(shared_, *wheels_[i % kWheels],
                                                 bundle.agents[i].name, bundle.IdentityOf(i)));
  }
}

Fleet::~Fleet() {
  for (const auto& agent : agents_) agent->Stop();
  const auto gone = [this] { return Count(&SimAgent::Gone) == agents_.size(); };
  if (!testing::Eventually(gone, options_.settle_within)) Fail("a session does not end");
  for (const auto& wheel : wheels_) wheel->Stop();
}

Status Fleet::Run(Report& report) {
  report.agents = agents_.size();
  MUSTER_RETURN_IF_ERROR(Connect(report));
  Sleep(options_.warm_up);
  Measure(report);
  if (options_.change_specs && !stop_) MUSTER_RETURN_IF_ERROR(Change(report));
  if (options_.reconnect_storm && !stop_) MUSTER_RETURN_IF_ERROR(Storm(report));
  return Settle(report);
}

Status Fleet::Connect(Report& report) {
  const Meter meter(clock_, options_.plane);
  for (const auto& agent : agents_) agent->Begin(random_->Below(options_.connect_over));
  const bool all =
      Until(options_.connect_within, [this] { return shared_.figures.welcomed == agents_.size(); });
  Rush& rush = report.connect;
  rush.seconds = meter.Seconds();
  meter.Read(rush.fleet, rush.plane);
  rush.handshake = SpreadOf(shared_.figures.handshakes.Take());
  rush.welcome = SpreadOf(shared_.figures.welcomes.Take());
  report.connected = shared_.figures.welcomed;
  if (all) return OkStatus();
  report.ends = shared_.figures.TakeEnds();
  return Missing("welcomed", report.connected);
}

void Fleet::Measure(Report& report) {
  Figures& figures = shared_.figures;
  figures.waits.Take();
  figures.returns.Take();
  const uint64_t results = figures.results;
  const uint64_t news = figures.news;
  const uint64_t acknowledged = figures.acknowledged;
  const uint64_t batches = figures.batches;
  const Meter meter(clock_, options_.plane);
  Sleep(options_.measure);
  Steady& steady = report.steady;
  steady.seconds = meter.Seconds();
  meter.Read(steady.fleet, steady.plane);
  const auto rate = [&](uint64_t now, uint64_t before) {
    return static_cast<double>(now - before) / steady.seconds;
  };
  steady.results_a_second = rate(figures.results, results);
  steady.news_a_second = rate(figures.news, news);
  steady.acknowledged_a_second = rate(figures.acknowledged, acknowledged);
  steady.batches_a_second = rate(figures.batches, batches);
  steady.acknowledged_in = SpreadOf(figures.waits.Take());
  steady.back = SpreadOf(figures.returns.Take());
  steady.lost_sessions = steady.back.count;
  const double grown = steady.plane.resident_mib - static_cast<double>(plane_bytes_before_) / kMiB;
  if (options_.plane != 0) report.plane_mib_a_session = grown / static_cast<double>(agents_.size());
}

Status Fleet::Change(Report& report) {
  Figures& figures = shared_.figures;
  figures.reaches.Take();
  const uint64_t before = figures.plans;
  const Meter meter(clock_, options_.plane);
  const absl::Duration began = clock_.Uptime();
  shared_.changed_at = absl::ToInt64Microseconds(began);
  MUSTER_RETURN_IF_ERROR(options_.change_specs());
  report.change.call_seconds = absl::ToDoubleSeconds(clock_.Uptime() - began);
  const bool all =
      Until(options_.connect_within, [&] { return figures.plans >= before + agents_.size(); });
  meter.Read(report.change.fleet, report.change.plane);
  report.change.reached = SpreadOf(figures.reaches.Take());
  return all || stop_ ? OkStatus() : Missing("reached", figures.plans - before);
}

Status Fleet::Storm(Report& report) {
  Figures& figures = shared_.figures;
  figures.handshakes.Take();
  figures.welcomes.Take();
  figures.returns.Take();
  const uint64_t before = figures.sessions;
  const Meter meter(clock_, options_.plane);
  testing::CutConnections();
  const bool all = Until(options_.connect_within, [&] {
    return figures.welcomed == agents_.size() && figures.sessions >= before + agents_.size();
  });
  Rush& rush = report.storm;
  rush.seconds = meter.Seconds();
  meter.Read(rush.fleet, rush.plane);
  rush.handshake = SpreadOf(figures.handshakes.Take());
  rush.welcome = SpreadOf(figures.welcomes.Take());
  rush.back = SpreadOf(figures.returns.Take());
  return all || stop_ ? OkStatus() : Missing("welcomed again", figures.welcomed);
}

Status Fleet::Settle(Report& report) {
  Figures& figures = shared_.figures;
  shared_.finding = false;
  const absl::Duration began = clock_.Uptime();
  for (const auto& agent : agents_) agent->Flush();
  const auto settled = [this] { return Count(&SimAgent::Settled); };
  const absl::Duration until = began + options_.settle_within;
  while (settled() < agents_.size() && clock_.Uptime() < until) testing::Pause(kLook);
  report.settle_seconds = absl::ToDoubleSeconds(clock_.Uptime() - began);
  report.settled = settled();
  report.connected = figures.welcomed;
  report.results = figures.results;
  report.acknowledged = figures.acknowledged;
  report.folded = figures.folded;
  report.went_back = figures.went_back;
  report.renewed = figures.renewed;
  report.ends = figures.TakeEnds();
  if (shared_.journal) MUSTER_RETURN_IF_ERROR(shared_.journal->Flush());
  return report.settled == agents_.size() ? OkStatus() : Missing("settled", report.settled);
}

void Fleet::Sleep(absl::Duration how_long) const {
  Until(how_long, [] { return false; });
}

bool Fleet::Until(absl::Duration within, const std::function<bool()>& holds) const {
  const absl::Duration until = clock_.Uptime() + within;
  absl::Duration flushed = clock_.Uptime();
  while (!holds()) {
    const absl::Duration now = clock_.Uptime();
    if (now >= until || stop_) return false;
    if (shared_.journal && now - flushed > kFlushJournal) {
      Must(shared_.journal->Flush(), "write the journal");
      flushed = now;
    }
    testing::Pause(std::min(kLook, until - now));
  }
  return true;
}

size_t Fleet::Count(bool (SimAgent::*holds)() const) const {
  return static_cast<size_t>(std::count_if(agents_.begin(), agents_.end(),
                                           [&](const auto& a) { return (a.get()->*holds)(); }));
}

Status Fleet::Missing(std::string_view what, size_t have) const {
  return DeadlineExceeded("{} of {} agents were {}", have, agents_.size(), what);
}

}  // namespace muster::bench
