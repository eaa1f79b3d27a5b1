#include "tests/bench/ingest/usage.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include <filesystem>
#include <fstream>

namespace muster::bench {
namespace {

constexpr int64_t kXfsMagic = 0x58465342;

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

Usage UsageNow() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  Usage usage;
  usage.cpu = absl::DurationFromTimeval(used.ru_utime) + absl::DurationFromTimeval(used.ru_stime);
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    const std::string nanoseconds = FirstLine(task.path() / "schedstat");
    if (nanoseconds.empty()) continue;
    usage.threads[FirstLine(task.path() / "comm")] +=
        absl::Nanoseconds(std::strtoll(nanoseconds.c_str(), nullptr, 10));
  }
  return usage;
}

Usage operator-(Usage after, const Usage& before) {
  after.cpu -= before.cpu;
  for (const auto& [name, used] : before.threads) after.threads[name] -= used;
  return after;
}

uint64_t PeakResidentBytes() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<uint64_t>(used.ru_maxrss) * 1024;
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string FileSystemOf(const std::string& folder) {
  struct statfs found {};
  if (statfs(folder.c_str(), &found) != 0) return "unknown";
  switch (int64_t{found.f_type}) {
    case EXT4_SUPER_MAGIC: return "ext4";
    case BTRFS_SUPER_MAGIC: return "btrfs";
    case kXfsMagic: return "xfs";
    case OVERLAYFS_SUPER_MAGIC: return "overlay";
    case TMPFS_MAGIC: return "tmpfs";
    default: return fmt::format("{:#x}", found.f_type);
  }
}

}  // namespace muster::bench
