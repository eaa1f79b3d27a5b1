// The live table of `musterctl watch`: what fails stands first, and what does not fit the terminal
// is counted. Pure; one thread at a time.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ctl/render/table.h"
#include "muster/v1/state_service.pb.h"

namespace muster::ctl {

class Board {
 public:
  void Take(const v1::WatchEvent& event);
  // Later sight of what is known: observed_at and latency, which no event tells.
  void Refresh(const v1::State& state);
  void Clear() { states_.clear(); }
  bool empty() const { return states_.empty(); }

  // At most `lines` lines, each ended by a newline: a line of counts, then the table.
  std::string Text(const TableStyle& style, size_t lines) const;

 private:
  std::vector<const v1::State*> WorstFirst() const;
  std::string Counts(const TableStyle& style) const;

  std::map<std::pair<std::string, std::string>, v1::State> states_;  // by agent and check
};

// A screen that is drawn over the one before, from its top.
std::string OverTheTop(const std::string& text);

}  // namespace muster::ctl
