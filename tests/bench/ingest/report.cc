#include "tests/bench/ingest/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::bench {
namespace {

constexpr double kQuiet = 0.005;  // cores; threads below are not worth a word

// The median of each number of JSON objects that have the same shape.
nlohmann::json MedianOf(const std::vector<nlohmann::json>& values) {
  nlohmann::json middle = values.front();
  if (middle.is_object()) {
    for (auto& [key, value] : middle.items()) {
      std::vector<nlohmann::json> fields;
      for (const nlohmann::json& one : values) {
        if (one.contains(key)) fields.push_back(one[key]);
      }
      value = MedianOf(fields);
    }
    return middle;
  }
  std::vector<nlohmann::json> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

}  // namespace

Report Median(const std::vector<Report>& runs) {
  return MedianOf({runs.begin(), runs.end()}).get<Report>();
}

std::string TableHead() {
  return fmt::format(
      "{:>5} {:<8} {:>10} {:>9} {:>8} {:>8} {:>9} {:>6} {:>9} {:>8} {:>8} {:>9} {:>8}", "batch",
      "part", "results/s", "batches/s", "ack p50", "ack p99", "CPU s/M", "cores", "peak RSS",
      "B/result", "states", "b/commit", "ratio");
}

std::string TableLine(const Report& r, double ceiling) {
  return fmt::format(
      "{:>5} {:<8} {:>10.0f} {:>9.0f} {:>5.1f} ms {:>5.1f} ms {:>9.2f} {:>6.2f} {:>5.0f} MiB "
      "{:>8.2f} {:>8.3f} {:>9.1f} {:>8.2f}",
      r.batch, r.part, r.results_a_second, r.batches_a_second, r.ack_p50_ms, r.ack_p99_ms,
      r.cpu_seconds_a_million, r.cores, r.peak_resident_mib, r.bytes_a_result,
      r.state_rows_a_result, r.batches_a_commit, ceiling > 0 ? r.results_a_second / ceiling : 0);
}

std::string ThreadLine(const Report& report) {
  std::string line = fmt::format("      {:<8} cores by thread:", report.part);
  for (const auto& [name, cores] : report.thread_cores) {
    if (cores > kQuiet) line += fmt::format(" {} {:.2f}", name, cores);
  }
  return line;
}

}  // namespace muster::bench
