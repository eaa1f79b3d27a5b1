#include "ctl/render/history.h"

#include "ctl/render/table.h"
#include "lib/base/text.h"

namespace muster::ctl {
namespace {

std::string GapText(const Json& gap) {
  return fmt::format("{} to {} were not kept: {}", gap.at("first").dump(), gap.at("last").dump(),
                     gap.at("reason").get<std::string>());
}

std::string TextAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || !found->is_string() ? "-" : found->get<std::string>();
}

}  // namespace

Json HistoryJson(const v1::HistoryEntry& entry) {
  const Json whole = ToJson(entry);
  if (!entry.has_gap()) return whole;
  return {{"seq", whole.at("seq")}, {"logEpoch", whole.at("logEpoch")}, {"gap", whole.at("gap")}};
}

std::string HistoryHeader() {
  return fmt::format("{:<10}  {:<27}  {:<8}  {:<9}  {}\n", "SEQ", "OBSERVED", "STATE", "LATENCY",
                     "SUMMARY");
}

std::string HistoryLine(const v1::HistoryEntry& entry, bool colour) {
  const Json json = HistoryJson(entry);
  if (entry.has_gap())
    return fmt::format("{:<10}  {:<27}  {:<8}  {:<9}  {}\n", entry.seq(),
                       TextAt(json.at("gap"), "from"), "GAP", "-", GapText(json.at("gap")));
  const std::string state = TextAt(json, "state");
  const std::string padding(state.size() < 8 ? 8 - state.size() : 0, ' ');
  return fmt::format("{:<10}  {:<27}  {}{}  {:<9}  {}\n", entry.seq(), TextAt(json, "observedAt"),
                     colour ? Painted(state) : state, padding, TextAt(json, "latency"),
                     OneLine(entry.summary()));
}

}  // namespace muster::ctl
