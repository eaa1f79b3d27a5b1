// The processes of an attempt, wherever they went: found in /proc by the variables MUSTER_RUN and
// MUSTER_ATTEMPT, which each inherits, and by the process group and session of the program. One
// that gave up both, or belongs to another user, is not found. Nobody else's is ever touched: a
// process is held by a pidfd before it is looked at. Linux; any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "agent/jobs/run_journal.h"
#include "lib/exec/program.h"

namespace muster::agent {

// "1 process", "2 processes".
inline std::string CountProcesses(size_t count) {
  return fmt::format("{} process{}", count, count == 1 ? "" : "es");
}

// "NAME=value" of what marks a process as the attempt's.
std::vector<std::string> AttemptMarks(const AttemptKey& key);

// The mark of a process that runs; nullopt without one.
std::optional<ProcessMark> MarkOf(pid_t pid);
// Whether that very process still runs.
bool IsAlive(const ProcessMark& mark);

// Processes that are held: a signal reaches them or nobody.
struct HeldProcess {
  pid_t pid;
  exec::Fd pidfd;
};
using HeldProcesses = std::vector<HeldProcess>;
void Signal(const HeldProcesses& processes, int signal);
// Those that have not ended.
size_t CountAlive(const HeldProcesses& processes);

// How many processes were ended, and how many are left all the same.
struct ProcessesEnded {
  size_t ended = 0;
  size_t left = 0;
};

// Of the processes that a task runs beside others, which carry kBesideMark.
enum class Beside { kToo, kSpared };
inline constexpr char kBesideMark[] = "MUSTER_BESIDE=1";

class AttemptProcesses {
 public:
  // `group`: a process group and session that is the attempt's for certain while this object is
  // used, because its leader was not waited for; 0 without one.
  AttemptProcesses(const AttemptKey& key, pid_t group, Beside beside = Beside::kToo);

  // Those that are there, but for ended ones that nobody has waited for.
  HeldProcesses Find() const;
  // SIGKILL until none is left, or two seconds have passed.
  ProcessesEnded Kill() const;

 private:
  bool IsOurs(pid_t pid) const;

  const std::vector<std::string> marks_;
  const pid_t group_;
  const Beside beside_;
};

// What is left of an attempt whose agent is gone: asked to end, and ended when the grace is over.
// `process` is its program as it was journalled.
ProcessesEnded EndLeftovers(const AttemptKey& key, const std::optional<ProcessMark>& process,
                            absl::Duration grace);

}  // namespace muster::agent
