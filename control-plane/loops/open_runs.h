// The runs that are open, by their ids.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "control-plane/store/run_store.h"

namespace muster::control {

class OpenRuns {
 public:
  const std::vector<RunRow>& rows() const { return rows_; }

  void Replace(std::vector<RunRow> rows) {
    rows_ = std::move(rows);
    places_.clear();
    for (size_t i = 0; i < rows_.size(); ++i) places_.emplace(rows_[i].id, i);
  }

  // Each takes the place of the one with its id; those that are over go.
  void Merge(std::vector<RunRow> changed) {
    for (RunRow& run : changed) {
      const auto [place, is_new] = places_.emplace(run.id, rows_.size());
      if (is_new) {
        rows_.push_back(std::move(run));
      } else {
        rows_[place->second] = std::move(run);
      }
      if (rows_[place->second].phase == RunPhase::kOver) Remove(place->second);
    }
  }

  // Lent, not copied: there may be very many. Nothing else is called before they are given back,
  // as they were.
  std::vector<RunRow> Lend() { return std::move(rows_); }
  void TakeBack(std::vector<RunRow> rows) { rows_ = std::move(rows); }

 private:
  // The last one moves up.
  void Remove(size_t at) {
    places_.erase(rows_[at].id);
    if (at + 1 < rows_.size()) {
      rows_[at] = std::move(rows_.back());
      places_[rows_[at].id] = at;
    }
    rows_.pop_back();
  }

  std::vector<RunRow> rows_;
  absl::flat_hash_map<std::string, size_t> places_;
};

}  // namespace muster::control
