// Leaves the reports of one exec in the drop folder of an agent, which may run or not: each is
// written under another name, flushed and renamed. A thread of its own does it, so that a disk that
// hangs holds up nobody but itself.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/reports/report.h"
#include "lib/base/status.h"
#include "lib/exec/program.h"
#include "lib/exec/threads.h"

namespace muster::agent {

class ReportWriter {
 public:
  // Begins to write the start, and holds the lock on it from then on.
  ReportWriter(std::string data, Report begun);
  // Writes the end. OK once both are in the folder, else the first that went wrong.
  // DeadlineExceeded: the disk hangs; then end the process without destroying this.
  Status Finish(Report ended, absl::Duration within);

 private:
  void Work();
  Status WriteStart();
  Status WriteEnd(const Report& report);
  Status OpenFolder();
  Status Put(const ReportName& name, std::string_view bytes, exec::Fd& file) const;
  Status CheckTaken() const;

  const std::string data_;
  const Report begun_;
  exec::Fd folder_;  // these two of the thread
  exec::Fd start_;
  absl::Mutex mutex_;
  std::optional<Report> ended_ ABSL_GUARDED_BY(mutex_);
  Status outcome_ ABSL_GUARDED_BY(mutex_);
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::agent
