// A run's own folder in the staging folder, and the room that is left there. It is locked while it
// is used and removed with the object; what a run that was killed left behind is removed by the
// next one. One thread.
//
//   STAGING/run-<run id>/     mode 0700, or 0711 where a server of another user must get through
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "lib/base/status.h"
#include "lib/exec/program.h"

namespace muster::agent::backup {

// Bytes that may still be written to the file system of the path.
StatusOr<uint64_t> FreeBytes(const std::string& path);
// Bytes of all regular files in it.
uint64_t FolderBytes(const std::string& path);
// FailedPrecondition unless it is not there yet, or an empty folder.
Status CheckNewFolder(const std::string& folder);

class Workspace {
 public:
  // Makes the staging folder where it is missing. `removed` says how many folders of dead runs
  // were.
  static StatusOr<std::unique_ptr<Workspace>> Open(const std::string& staging,
                                                   const std::string& run_id, int& removed);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  const std::string& path() const { return path_; }
  const std::string& staging() const { return staging_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Makes it, mode 0700.
  StatusOr<std::string> MakeSub(const std::string& name) const;
  Status RemoveSub(const std::string& name) const;
  // Lets a server that runs as another user get to its folder below. PermissionDenied names the
  // folder above that it may not pass.
  Status OpenForOthers() const;

  // ResourceExhausted says how much is there, how much is needed, and for what.
  Status NeedRoom(uint64_t bytes, std::string_view for_what) const;
  // Whether the file system is about to be full: less than `kReserve` is left.
  Status CheckReserve() const;
  static constexpr uint64_t kReserve = 64 << 20;

 private:
  Workspace(std::string staging, std::string path, exec::Fd lock);
  const std::string staging_;
  const std::string path_;
  const exec::Fd lock_;
};

}  // namespace muster::agent::backup
