#include "ctl/render/board.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::ctl {
namespace {

// CRITICAL, then UNKNOWN and NO_DATA, then WARNING, then OK.
int Badness(v1::CheckStatus status) {
  switch (status) {
    case v1::CHECK_STATUS_CRITICAL: return 4;
    case v1::CHECK_STATUS_NO_DATA: return 3;
    case v1::CHECK_STATUS_UNKNOWN: return 2;
    case v1::CHECK_STATUS_WARNING: return 1;
    default: return 0;
  }
}

std::string StateName(v1::CheckStatus status) {
  return v1::CheckStatus_Name(status).substr(std::string_view("CHECK_STATUS_").size());
}

}  // namespace

void Board::Take(const v1::WatchEvent& event) {
  if (event.has_state()) states_[{event.state().agent(), event.state().check()}] = event.state();
  if (event.has_removed()) states_.erase({event.removed().agent(), event.removed().check()});
}

void Board::Refresh(const v1::State& state) {
  const auto known = states_.find({state.agent(), state.check()});
  if (known == states_.end()) return;
  *known->second.mutable_observed_at() = state.observed_at();
  *known->second.mutable_latency() = state.latency();
}

std::vector<const v1::State*> Board::WorstFirst() const {
  std::vector<const v1::State*> states;
  for (const auto& [key, state] : states_) states.push_back(&state);
  std::stable_sort(states.begin(), states.end(), [](const v1::State* a, const v1::State* b) {
    return Badness(a->state()) > Badness(b->state());
  });
  return states;
}

std::string Board::Counts(const TableStyle& style) const {
  std::map<int, std::pair<v1::CheckStatus, size_t>, std::greater<>> counts;
  for (const auto& [key, state] : states_) {
    auto& [status, count] = counts[Badness(state.state())];
    status = state.state();
    ++count;
  }
  std::string text;
  for (const auto& [badness, count] : counts) {
    const std::string name = StateName(count.first);
    text += fmt::format("{}{} {}", text.empty() ? "" : "  ", count.second,
                        style.colour ? Painted(name) : name);
  }
  return fmt::format("{}   {}\n", text.empty() ? "no check has reported yet" : text,
                     TimeText(absl::FromUnixSeconds(absl::ToUnixSeconds(style.now))));
}

std::string Board::Text(const TableStyle& style, size_t lines) const {
  constexpr size_t kFrame = 4;  // counts, an empty line, the header, and what did not fit
  const std::vector<const v1::State*> states = WorstFirst();
  const size_t room = std::max<size_t>(lines, kFrame + 1) - kFrame;
  const size_t shown = std::min(states.size(), room);
  Json items = Json::array();
  for (size_t i = 0; i < shown; ++i) items.push_back(ToJson(*states[i]));
  std::string text = Counts(style);
  if (states.empty()) return text;
  text += "\n" + TableText(FindKind("states")->columns, items, style);
  if (shown < states.size()) {
    text += fmt::format("… and {} more, none worse than {}\n", states.size() - shown,
                        StateName(states[shown]->state()));
  }
  return text;
}

std::string OverTheTop(const std::string& text) {
  std::string screen = "\x1b[H";
  for (const char c : text) screen += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
  return screen + "\x1b[J";
}

}  // namespace muster::ctl
