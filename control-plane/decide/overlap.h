// What becomes of a job's new run while earlier runs of the job are not over. Pure.
//
//   policy            nothing runs   one runs             one runs, one waits
//   skip              start          skip                 skip
//   buffer one        start          wait                 skip
//   buffer all        start          wait                 wait, up to kMostBuffered
//   cancel other      start          cancel it, wait      cancel it, drop the other, wait
//   terminate other   start          terminate it, wait   terminate it, drop the other, wait
//   allow             start          start                start
//
// A run whose outcome is unknown is over (docs/decisions/0039). Who waits is started by
// admission.h, oldest first, once the runs before it are over: each but `allow` claims its job for
// itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muster::control {

enum class Overlap { kSkip, kBufferOne, kBufferAll, kCancelOther, kTerminateOther, kAllow };

inline constexpr size_t kMostBuffered = 1000;

// As in a spec: "skip", "bufferOne" …
std::string_view OverlapText(Overlap overlap);

// Whether of several slots that come due at once only the newest can matter: what ran for an older
// one would be skipped, dropped or ended by the next.
bool KeepsNewest(Overlap overlap);

struct OverlapFacts {
  Overlap policy = Overlap::kSkip;
  std::vector<std::string> running;  // runs of the job that began, or are being ended
  std::vector<std::string> waiting;  // runs of the job that have not begun
};

enum class Arrival { kStart, kWait, kSkip };

struct OverlapDecision {
  Arrival arrival = Arrival::kStart;
  std::vector<std::string> cancel;     // to be asked to end, again if they were before
  std::vector<std::string> terminate;  // to be ended
  std::vector<std::string> drop;       // waiting runs that become missed in favour of the new one
  std::string reason;
};

OverlapDecision DecideOverlap(const OverlapFacts& facts);

}  // namespace muster::control
