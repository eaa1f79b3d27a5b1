#include "control-plane/decide/witness.h"

#include <algorithm>

#include <fmt/format.h>

namespace muster::control {
namespace {

std::string Entries(const Verdict& verdict) {
  return verdict.first == verdict.last
             ? fmt::format("entry {}", verdict.first)
             : fmt::format("entries {} to {}", verdict.first, verdict.last);
}

}  // namespace

Verdict Compare(const v1::Checkpoint& checkpoint, const ChainPlace& chain) {
  const uint64_t sequence = checkpoint.sequence();
  if (sequence > chain.last_sequence) {
    return {Testimony::kMissing, chain.last_sequence + 1, sequence};
  }
  if (!chain.hash.has_value()) return {Testimony::kMissing, sequence, sequence};
  if (*chain.hash != checkpoint.hash()) return {Testimony::kDiffers, 1, sequence};
  return {};
}

std::string Text(const Verdict& verdict) {
  switch (verdict.testimony) {
    case Testimony::kAgrees: return "the chain agrees";
    case Testimony::kMissing:
      return fmt::format("{} {} missing", Entries(verdict),
                         verdict.first == verdict.last ? "is" : "are");
    case Testimony::kDiffers:
      return verdict.first == verdict.last
                 ? fmt::format("{} was changed", Entries(verdict))
                 : fmt::format("something in {} was changed", Entries(verdict));
  }
  return "";
}

std::vector<WitnessFact> Narrow(std::vector<WitnessFact> facts) {
  std::vector<uint64_t> agreed = {0};
  for (const WitnessFact& fact : facts) {
    if (fact.verdict.testimony == Testimony::kAgrees) agreed.push_back(fact.sequence);
  }
  std::sort(agreed.begin(), agreed.end());
  for (WitnessFact& fact : facts) {
    if (fact.verdict.testimony != Testimony::kDiffers) continue;
    const auto after = std::lower_bound(agreed.begin(), agreed.end(), fact.sequence);
    fact.verdict.first = *std::prev(after) + 1;
  }
  return facts;
}

}  // namespace muster::control
