// Small files, whole. Writes are durable and atomic: a reader sees the old content or the new.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "lib/base/status.h"

namespace muster {

// At most 64 MiB.
StatusOr<std::string> ReadFile(const std::string& path);
// Writes beside `path`, fsyncs, renames over it, and fsyncs the folder.
Status WriteFileAtomically(const std::string& path, std::string_view content, mode_t mode = 0600);
// Makes the folder (mode 0700) and its parents where they are missing.
Status MakeFolder(const std::string& path);
bool FileExists(const std::string& path);

}  // namespace muster
