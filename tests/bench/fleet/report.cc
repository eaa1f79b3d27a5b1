#include "tests/bench/fleet/report.h"

#include <fmt/format.h>

#include "tests/bench/lib/quantile.h"

namespace muster::bench {
namespace {

std::string Line(const char* what, const std::string& seen) {
  return fmt::format("{:<26}{}\n", what, seen);
}

std::string Text(const Spread& spread) {
  return fmt::format("p50 {:.0f} ms, p99 {:.0f} ms, slowest {:.0f} ms ({})", spread.p50, spread.p99,
                     spread.most, spread.count);
}

std::string Text(const Cost& cost) {
  return fmt::format("{:.2f} cores, {:.0f} MiB", cost.cores, cost.resident_mib);
}

std::string Lines(const char* what, const Rush& rush) {
  std::string text = Line(what, fmt::format("{:.1f} s until all were welcomed", rush.seconds)) +
                     Line("  handshake", Text(rush.handshake)) +
                     Line("  welcome", Text(rush.welcome));
  if (rush.back.count > 0) text += Line("  loss to welcome", Text(rush.back));
  return text + Line("  fleet", Text(rush.fleet)) + Line("  control plane", Text(rush.plane));
}

std::string Lines(const Change& change) {
  return Line("spec change", fmt::format("the call took {:.0f} ms", 1000 * change.call_seconds)) +
         Line("  reached agents in", Text(change.reached)) + Line("  fleet", Text(change.fleet)) +
         Line("  control plane", Text(change.plane));
}

std::string Lines(const Steady& steady) {
  std::string text =
      Line("steady", fmt::format("{:.0f} s", steady.seconds)) +
      Line("  results a second", fmt::format("{:.0f}, of them {:.1f} news", steady.results_a_second,
                                             steady.news_a_second)) +
      Line("  acknowledged a second",
           fmt::format("{:.0f} in {:.0f} batches", steady.acknowledged_a_second,
                       steady.batches_a_second)) +
      Line("  acknowledged in", Text(steady.acknowledged_in));
  if (steady.lost_sessions > 0) {
    text += Line("  sessions lost",
                 fmt::format("{}; back: {}", steady.lost_sessions, Text(steady.back)));
  }
  return text + Line("  fleet", Text(steady.fleet)) + Line("  control plane", Text(steady.plane));
}

}  // namespace

Spread SpreadOf(const std::vector<absl::Duration>& ascending) {
  return {ascending.size(), Milliseconds(ascending, 0.5), Milliseconds(ascending, 0.99),
          Milliseconds(ascending, 1)};
}

std::string Table(const Report& report) {
  std::string text =
      Line("agents", fmt::format("{}, at the end {} connected and {} all acknowledged",
                                 report.agents, report.connected, report.settled)) +
      Lines("connect", report.connect) + Lines(report.steady);
  if (report.change.reached.count > 0) text += Lines(report.change);
  if (report.storm.welcome.count > 0) text += Lines("reconnect storm", report.storm);
  text += Line("results", fmt::format("{}; {} records acknowledged, {} dropped by the agents",
                                      report.results, report.acknowledged, report.folded));
  if (report.plane_mib_a_session > 0) {
    text += Line("control plane a session", fmt::format("{:.3f} MiB", report.plane_mib_a_session));
  }
  text += Line("last flush", fmt::format("{:.1f} s", report.settle_seconds));
  for (const auto& [why, count] : report.ends) {
    text += Line("ended", fmt::format("{} × {}", count, why));
  }
  return text;
}

}  // namespace muster::bench
