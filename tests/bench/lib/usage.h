// What a process has used so far.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include <absl/time/time.h>

namespace muster::bench {

struct Usage {
  absl::Duration cpu;                             // user and system, all threads
  std::map<std::string, absl::Duration> threads;  // by name; empty where the kernel does not say
};
Usage UsageNow();
Usage operator-(Usage after, const Usage& before);

// Of any process: its CPU time and what is resident now. Empty for one that is not there.
struct ProcessUsage {
  absl::Duration cpu;
  uint64_t resident_bytes = 0;
};
ProcessUsage UsageOf(pid_t process);

// The most that was resident since the process began.
uint64_t PeakResidentBytes();

// "ext4", "tmpfs" and the like; the number in hex for one that has no name here.
std::string FileSystemOf(const std::string& folder);

}  // namespace muster::bench
