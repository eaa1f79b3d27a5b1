// What `muster-agent exec` tells the agent: a small file of the drop folder. Anybody on the host
// can put anything there, so nothing of it is believed but what Read lets through.
//
//   UUID.start    the command has begun; its exec holds the lock on it for as long as it lives
//   UUID.running  the same, once the agent has told it: the agent's own name for the file
//   UUID.end      it is over; says all of UUID.start once more, so that one of them is enough
//
// Both are a RecordBatch whose `others` are the run's events: started, output, ended. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

inline constexpr size_t kMostReportBytes = 64 << 10;

struct ReportName {
  enum class Kind { kStart, kRunning, kEnd };
  std::string run_id;  // a UUID of version 4
  Kind kind = Kind::kStart;
};
std::string FileName(const ReportName& name);
// nullopt for any other file.
std::optional<ReportName> ParseReportName(std::string_view file);

struct Report {
  std::string run_id;
  std::string job;
  std::string what;  // the program
  absl::Time began;
  std::vector<v1::RunOutput> output;
  std::optional<v1::RunEnded> ended;
  absl::Time ended_at;
};

std::string Pack(const Report& report);
// InvalidArgument if the bytes are no report of that name. What is too long is cut, and what lies
// after `now` is now.
StatusOr<Report> ReadReport(std::string_view bytes, const ReportName& name, absl::Time now);

// As the log is to hold it, which every control plane takes; without the start where that was told.
enum class Telling { kAll, kWithoutStart };
StatusOr<std::vector<v1::Record>> RecordsOf(const Report& report, std::string_view user,
                                            Telling telling);

}  // namespace muster::agent
