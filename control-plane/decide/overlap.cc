#include "control-plane/decide/overlap.h"

#include <fmt/format.h>

namespace muster::control {
namespace {

OverlapDecision Arrive(Arrival arrival, std::string reason) {
  return {.arrival = arrival, .reason = std::move(reason)};
}

// The run that is in the way, in words.
std::string InTheWay(const OverlapFacts& facts) {
  return facts.running.empty() ? fmt::format("run {} waits", facts.waiting.front())
                               : fmt::format("run {} is not over", facts.running.front());
}

OverlapDecision BufferAll(const OverlapFacts& facts) {
  if (facts.waiting.size() >= kMostBuffered) {
    return Arrive(Arrival::kSkip, fmt::format("overlap bufferAll: {} runs wait already, the most "
                                              "that may",
                                              facts.waiting.size()));
  }
  return Arrive(Arrival::kWait, fmt::format("overlap bufferAll: {}", InTheWay(facts)));
}

OverlapDecision ReplaceOther(const OverlapFacts& facts) {
  OverlapDecision out = Arrive(facts.running.empty() ? Arrival::kStart : Arrival::kWait,
                               fmt::format("overlap {}: in place of what came before, as {}",
                                           OverlapText(facts.policy), InTheWay(facts)));
  (facts.policy == Overlap::kCancelOther ? out.cancel : out.terminate) = facts.running;
  out.drop = facts.waiting;
  return out;
}

}  // namespace

std::string_view OverlapText(Overlap overlap) {
  switch (overlap) {
    case Overlap::kSkip: return "skip";
    case Overlap::kBufferOne: return "bufferOne";
    case Overlap::kBufferAll: return "bufferAll";
    case Overlap::kCancelOther: return "cancelOther";
    case Overlap::kTerminateOther: return "terminateOther";
    case Overlap::kAllow: return "allow";
  }
  return "";
}

bool KeepsNewest(Overlap overlap) {
  return overlap != Overlap::kBufferAll && overlap != Overlap::kAllow;
}

OverlapDecision DecideOverlap(const OverlapFacts& facts) {
  if (facts.policy == Overlap::kAllow) return Arrive(Arrival::kStart, "overlap allow");
  if (facts.running.empty() && facts.waiting.empty()) {
    return Arrive(Arrival::kStart, "no other run of the job");
  }
  switch (facts.policy) {
    case Overlap::kSkip:
      return Arrive(Arrival::kSkip, fmt::format("overlap skip: {}", InTheWay(facts)));
    case Overlap::kBufferOne:
      return facts.waiting.empty()
                 ? Arrive(Arrival::kWait, fmt::format("overlap bufferOne: {}", InTheWay(facts)))
                 : Arrive(Arrival::kSkip, fmt::format("overlap bufferOne: run {} waits already",
                                                      facts.waiting.front()));
    case Overlap::kBufferAll: return BufferAll(facts);
    case Overlap::kCancelOther:
    case Overlap::kTerminateOther: return ReplaceOther(facts);
    case Overlap::kAllow: break;
  }
  return Arrive(Arrival::kStart, "overlap allow");
}

}  // namespace muster::control
