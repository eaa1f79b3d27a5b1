// Takes the reports of the drop folder into the agent's log: a run's begin, and its end with the
// last that it wrote.
//
//   UUID.start ──told──► UUID.running ──its exec is gone, and told no end──► told: UNKNOWN
//   UUID.end ──told, with the begin where that was not──► removed, with the others of its run
//
// A file goes when the log has committed it, and not before. An agent that dies in between tells
// it once more, with the same run id, by which the control plane knows it. Whose a run is says the
// file's owner, and whether he may report it, the host's policy.
//
// Look is called again and again, by one thread. Policy, recorder and clock must outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "agent/policy/policy.h"
#include "agent/reports/drop_folder.h"
#include "agent/reports/report.h"
#include "agent/spool/recorder.h"
#include "lib/base/clock.h"

namespace muster::agent {

class ReportTaker {
 public:
  // How many of one user are told before others have their turn.
  static constexpr size_t kMostAtOnce = 50;

  ReportTaker(DropFolder folder, const Policy& policy, Recorder& recorder, const Clock& clock);
  void Look();

 private:
  // The files of one run.
  struct Run {
    std::optional<DroppedFile> start;
    std::optional<DroppedFile> running;
    std::optional<DroppedFile> end;
  };
  enum class Taken { kTold, kNothing, kDiskFull };

  std::map<uid_t, std::vector<Run>> RunsByUser(const std::vector<DroppedFile>& files) const;
  // False once the disk takes nothing.
  bool TakeOf(const std::vector<Run>& runs);
  Taken Take(const Run& run);
  Taken TakeStart(const DroppedFile& file);
  Taken TakeEnd(const Run& run);
  Taken TakeLost(const DroppedFile& file);
  // What stands in the file, if its user may report it; else the file is gone.
  std::optional<Report> ReadAllowed(const DroppedFile& file);
  Taken Tell(const DroppedFile& file, const Report& report, Telling telling);
  void Refuse(const DroppedFile& file, std::string_view job, std::string_view why);
  const std::string& UserName(uid_t user);

  DropFolder folder_;
  const Policy& policy_;
  Recorder& recorder_;
  const Clock& clock_;
  absl::Duration rest_until_ = -absl::InfiniteDuration();
  std::set<std::string> told_;  // begins that are told and whose files could not be renamed
  std::map<uid_t, std::string> users_;
  std::map<uid_t, absl::Duration> complained_at_;
};

}  // namespace muster::agent
