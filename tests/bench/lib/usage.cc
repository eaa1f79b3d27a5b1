#include "tests/bench/lib/usage.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

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

ProcessUsage UsageOf(pid_t process) {
  const std::filesystem::path folder = fmt::format("/proc/{}", process);
  const std::string stat = FirstLine(folder / "stat");
  ProcessUsage usage;
  if (stat.empty()) return usage;
  // After the program's name, which may hold anything: state is field 3, utime 14, stime 15.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  uint64_t user = 0;
  uint64_t system = 0;
  fields >> user >> system;
  usage.cpu = absl::Seconds(user + system) / sysconf(_SC_CLK_TCK);
  std::istringstream pages(FirstLine(folder / "statm"));
  uint64_t all = 0;
  uint64_t resident = 0;
  pages >> all >> resident;
  usage.resident_bytes = resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return usage;
}

uint64_t PeakResidentBytes() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<uint64_t>(used.ru_maxrss) * 1024;
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
