// What one run found, as JSON and as lines of a table.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace muster::bench {

struct Report {
  std::string part;  // "product" or "ceiling"
  uint64_t batch = 0;
  double results_a_second = 0;
  double batches_a_second = 0;
  double batches_a_commit = 0;
  double ack_p50_ms = 0;
  double ack_p99_ms = 0;
  double cpu_seconds_a_million = 0;
  double cores = 0;  // CPU seconds a second
  double peak_resident_mib = 0;
  double bytes_a_result = 0;
  double state_rows_a_result = 0;
  double transitions_a_result = 0;
  uint64_t stored_results = 0;
  std::map<std::string, double> thread_cores;  // by thread name
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Report, part, batch, results_a_second, batches_a_second,
                                   batches_a_commit, ack_p50_ms, ack_p99_ms, cpu_seconds_a_million,
                                   cores, peak_resident_mib, bytes_a_result, state_rows_a_result,
                                   transitions_a_result, stored_results, thread_cores)

// Each figure's own median; the runs are of one part and batch.
Report Median(const std::vector<Report>& runs);

std::string TableHead();
// `ceiling` is what the results a second are divided by.
std::string TableLine(const Report& report, double ceiling);
// Which threads the CPU went to.
std::string ThreadLine(const Report& report);

}  // namespace muster::bench
