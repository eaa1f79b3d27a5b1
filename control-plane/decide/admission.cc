#include "control-plane/decide/admission.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

struct Holder {
  std::string run;
  bool running = false;
};

// What is taken while the runs are looked at, one after the other.
class Room {
 public:
  explicit Room(uint32_t per_host) : per_host_(per_host) {}

  void Begin(const Claimant& one) {
    for (const std::string& claim : one.claims) claims_[claim] = {one.run, true};
    if (!one.host.empty()) ++runs_[one.host];
  }
  // Keeps what is free from those behind.
  void Keep(const Claimant& one) {
    for (const std::string& claim : one.claims) claims_.try_emplace(claim, Holder{one.run, false});
  }
  // Why it cannot begin, if so.
  std::optional<std::string> Obstacle(const Claimant& one) const {
    for (const std::string& claim : one.claims) {
      const auto held = claims_.find(claim);
      if (held == claims_.end()) continue;
      return fmt::format("{}: run {} {}", claim, held->second.run,
                         held->second.running ? "holds it" : "waits for it and came first");
    }
    const auto runs = runs_.find(one.host);
    if (runs == runs_.end() || runs->second < per_host_) return std::nullopt;
    return fmt::format("host {}: {} runs at once, the most that may", one.host, runs->second);
  }

 private:
  uint32_t per_host_;
  std::map<std::string, Holder> claims_;
  std::map<std::string, uint32_t> runs_;
};

}  // namespace

AdmissionPlan Admit(AdmissionFacts facts, absl::Time now) {
  AdmissionPlan plan;
  Room room(facts.per_host);
  for (const Claimant& one : facts.running) room.Begin(one);
  std::sort(facts.waiting.begin(), facts.waiting.end(), [](const Claimant& a, const Claimant& b) {
    return std::tie(a.due, a.run) < std::tie(b.due, b.run);
  });
  for (const Claimant& one : facts.waiting) {
    if (one.due > now) {
      plan.next_look = std::min(plan.next_look, one.due);
      continue;
    }
    std::optional<std::string> obstacle = room.Obstacle(one);
    if (now > one.start_by) {
      plan.missed.push_back({one.run, fmt::format("had not begun by {}{}{}", TimeText(one.start_by),
                                                  obstacle ? ": " : "", obstacle.value_or(""))});
    } else if (obstacle) {
      room.Keep(one);
      plan.next_look = std::min(plan.next_look, one.start_by + absl::Nanoseconds(1));
      plan.held.push_back({one.run, *std::move(obstacle)});
    } else {
      room.Begin(one);
      plan.start.push_back(one.run);
    }
  }
  return plan;
}

}  // namespace muster::control
