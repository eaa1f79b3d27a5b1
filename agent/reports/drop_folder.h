// DATA/exec, where anybody on the host may leave reports, as in a mail drop: mode 1733. Nobody but
// the agent lists it, and only who made a file may take it away.
//
// Hostile by assumption: no link is followed, no fifo is waited for, nothing is read beyond its
// bound; the owner of a file is who the kernel says. Of one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <absl/time/time.h>

#include "agent/reports/report.h"
#include "lib/base/status.h"
#include "lib/exec/program.h"

namespace muster::agent {

// What exec and the agent both know of it.
std::string DropFolderOf(const std::string& data);

struct DroppedFile {
  ReportName name;
  uid_t user = 0;
  absl::Time changed;
};

class DropFolder {
 public:
  // What a user may have there; what is beyond that, and whatever is no report, goes at once.
  struct Bounds {
    size_t files = 5000;
    int64_t bytes = 64 << 20;
  };

  // Makes it. kAnybody: `data` itself is made passable (mode 0711), or users other than its own and
  // root do not get there.
  enum class For { kOwner, kAnybody };
  static StatusOr<DropFolder> Open(const std::string& data, For whom);
  static StatusOr<DropFolder> Open(const std::string& data, For whom, Bounds bounds);

  // Oldest first.
  StatusOr<std::vector<DroppedFile>> List(absl::Time now);
  // NotFound if it is gone; InvalidArgument if it is not the file that was listed, or too large.
  StatusOr<std::string> Read(const DroppedFile& file) const;
  // Whether the process that made it lives and holds its lock. Yes where that cannot be told.
  bool IsHeld(const DroppedFile& file) const;
  bool Has(const ReportName& name) const;
  Status Rename(const ReportName& from, const ReportName& to) const;
  void Remove(const ReportName& name) const;
  // What was removed unread since the last call, for the log.
  uint64_t TakeRemoved();

 private:
  DropFolder(exec::Fd folder, Bounds bounds) : folder_(std::move(folder)), bounds_(bounds) {}
  StatusOr<exec::Fd> OpenFile(const DroppedFile& file) const;
  void RemoveUnread(const char* name);

  exec::Fd folder_;
  Bounds bounds_;
  uint64_t removed_ = 0;
};

}  // namespace muster::agent
