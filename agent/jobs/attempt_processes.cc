#include "agent/jobs/attempt_processes.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <set>
#include <string_view>
#include <utility>

#include <dirent.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr int kKillRounds = 80;
constexpr int kRoundMilliseconds = 25;

struct Stat {
  char state = 'X';
  pid_t group = 0;
  pid_t session = 0;
  uint64_t started = 0;
};

template <typename Number>
Number ToNumber(std::string_view text) {
  Number number{};
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// The fields behind the name, which may hold blanks and brackets.
std::optional<Stat> ReadStat(pid_t pid) {
  const StatusOr<std::string> text = ReadFile(fmt::format("/proc/{}/stat", pid));
  if (!text.ok()) return std::nullopt;
  const size_t bracket = text->rfind(')');
  if (bracket == std::string::npos || bracket + 2 >= text->size()) return std::nullopt;
  const std::vector<std::string_view> fields =
      Split(std::string_view(*text).substr(bracket + 2), ' ');
  if (fields.size() < 20 || fields[0].empty()) return std::nullopt;
  return Stat{fields[0][0], ToNumber<pid_t>(fields[2]), ToNumber<pid_t>(fields[3]),
              ToNumber<uint64_t>(fields[19])};
}

bool HasEnded(const Stat& stat) { return stat.state == 'Z' || stat.state == 'X'; }

std::string BootId() {
  const StatusOr<std::string> text = ReadFile("/proc/sys/kernel/random/boot_id");
  return text.ok() ? std::string(Trim(*text)) : "";
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return pids;
  while (const dirent* entry = readdir(folder)) {
    const pid_t pid = ToNumber<pid_t>(entry->d_name);
    if (pid > 0 && pid != getpid()) pids.push_back(pid);
  }
  closedir(folder);
  return pids;
}

void Rest(int milliseconds) { (void)poll(nullptr, 0, milliseconds); }

}  // namespace

std::vector<std::string> AttemptMarks(const AttemptKey& key) {
  return {"MUSTER_RUN=" + key.run_id, fmt::format("MUSTER_ATTEMPT={}", key.fence)};
}

std::optional<ProcessMark> MarkOf(pid_t pid) {
  const std::optional<Stat> stat = ReadStat(pid);
  if (!stat || HasEnded(*stat)) return std::nullopt;
  return ProcessMark{pid, stat->started, BootId()};
}

bool IsAlive(const ProcessMark& mark) {
  const std::optional<ProcessMark> now = MarkOf(mark.pid);
  return now && now->started == mark.started && now->boot_id == mark.boot_id;
}

AttemptProcesses::AttemptProcesses(const AttemptKey& key, pid_t group, Beside beside)
    : marks_(AttemptMarks(key)), group_(group), beside_(beside) {}

bool AttemptProcesses::IsOurs(pid_t pid) const {
  const std::optional<Stat> stat = ReadStat(pid);
  if (!stat || HasEnded(*stat)) return false;
  if (group_ > 0 && (stat->group == group_ || stat->session == group_)) return true;
  // Another user's cannot be read, and is not ours.
  const StatusOr<std::string> environment = ReadFile(fmt::format("/proc/{}/environ", pid));
  if (!environment.ok()) return false;
  const std::vector<std::string_view> variables = Split(*environment, '\0');
  const auto carries = [&](std::string_view mark) {
    return std::find(variables.begin(), variables.end(), mark) != variables.end();
  };
  if (beside_ == Beside::kSpared && carries(kBesideMark)) return false;
  return std::all_of(marks_.begin(), marks_.end(), carries);
}

HeldProcesses AttemptProcesses::Find() const {
  HeldProcesses found;
  for (const pid_t pid : AllProcesses()) {
    if (!IsOurs(pid)) continue;
    // Held, then looked at again: the number may have been given away in between.
    exec::Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (pidfd.open() && IsOurs(pid)) found.push_back({pid, std::move(pidfd)});
  }
  return found;
}

ProcessesEnded AttemptProcesses::Kill() const {
  std::set<pid_t> seen;
  for (int round = 0; round < kKillRounds; ++round) {
    const HeldProcesses found = Find();
    if (found.empty()) return {seen.size(), 0};
    for (const HeldProcess& process : found) seen.insert(process.pid);
    Signal(found, SIGKILL);
    Rest(round == 0 ? 1 : kRoundMilliseconds);
  }
  const size_t left = Find().size();
  return {seen.size() - std::min(left, seen.size()), left};
}

void Signal(const HeldProcesses& processes, int signal) {
  for (const HeldProcess& process : processes)
    syscall(SYS_pidfd_send_signal, process.pidfd.get(), signal, nullptr, 0);
}

size_t CountAlive(const HeldProcesses& processes) {
  return static_cast<size_t>(
      std::count_if(processes.begin(), processes.end(), [](const HeldProcess& process) {
        pollfd fd{process.pidfd.get(), POLLIN, 0};
        return poll(&fd, 1, 0) == 0;
      }));
}

ProcessesEnded EndLeftovers(const AttemptKey& key, const std::optional<ProcessMark>& process,
                            absl::Duration grace) {
  const AttemptProcesses marked(key, 0);
  HeldProcesses held = marked.Find();
  if (process) {
    // The group's number is proven by its leader alone; without one it may be anybody's by now.
    HeldProcesses group = AttemptProcesses(key, process->pid).Find();
    if (IsAlive(*process)) held = std::move(group);
  }
  if (held.empty()) return {};
  Signal(held, SIGTERM);
  const int64_t rounds = absl::ToInt64Milliseconds(grace) / kRoundMilliseconds;
  for (int64_t round = 0; round < rounds && CountAlive(held) > 0; ++round) Rest(kRoundMilliseconds);
  Signal(held, SIGKILL);
  const ProcessesEnded later = marked.Kill();
  for (int round = 0; round < kKillRounds && CountAlive(held) > 0; ++round)
    Rest(kRoundMilliseconds);
  const size_t left = std::max(CountAlive(held), later.left);
  return {held.size() - std::min(left, held.size()), left};
}

}  // namespace muster::agent
