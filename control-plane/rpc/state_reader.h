// States, transitions and history out of the store, in the shape that operators see. Blocks on the
// store.
#pragma once

#include <memory>
#include <string>

#include "control-plane/rpc/history_reader.h"
#include "control-plane/rpc/state_feed.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/state_service.pb.h"

namespace muster::control {

v1::State ToProto(const CheckStateRow& row, const CheckNames& names);
v1::Transition ToProto(const TransitionRow& row, const CheckNames& names);

// One reading of history: nothing is held between two pages but where it stands.
class HistoryPages {
 public:
  HistoryPages(HistoryStore& store, SegmentCursor cursor, const HistoryQuery& query);
  // The next entries, oldest first: about `enough`, or what one read of the store gave, which may
  // be none. What cannot be read is told after all that came before it.
  StatusOr<std::vector<v1::HistoryEntry>> Next(size_t enough);
  bool done() const { return done_; }

 private:
  HistoryStore& store_;
  SegmentCursor cursor_;
  std::vector<v1::HistoryEntry> entries_;
  HistoryReader reader_;
  std::vector<Segment> segments_;
  size_t fed_ = 0;  // of segments_
  Status damage_;
  bool done_ = false;
};

class StateReader {
 public:
  StateReader(Store& store, const Clock& clock) : store_(store), clock_(clock) {}

  Status List(const v1::ListStatesRequest& request, v1::ListStatesResponse& response);
  Status Transitions(const v1::ListTransitionsRequest& request,
                     v1::ListTransitionsResponse& response);
  StatusOr<std::unique_ptr<HistoryPages>> History(const v1::HistoryRequest& request);
  // NotFound names what there is none of. 0 for an empty name.
  StatusOr<uint32_t> CheckNumber(const std::string& name);

 private:
  StatusOr<StateFilter> Filter(const std::string& check, const std::string& agent);

  Store& store_;
  const Clock& clock_;
};

}  // namespace muster::control
