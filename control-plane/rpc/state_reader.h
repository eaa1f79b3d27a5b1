// States, transitions and history out of the store, in the shape that operators see. Blocks on the
// store.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/state_service.pb.h"

namespace muster::control {

// Names of checks by number, deleted ones excepted.
using CheckNames = std::map<uint32_t, std::string>;

v1::State ToProto(const CheckStateRow& row, const CheckNames& names);
v1::Transition ToProto(const TransitionRow& row, const CheckNames& names);

class StateReader {
 public:
  StateReader(Store& store, const Clock& clock) : store_(store), clock_(clock) {}

  StatusOr<CheckNames> Names();
  Status List(const v1::ListStatesRequest& request, v1::ListStatesResponse& response);
  Status Transitions(const v1::ListTransitionsRequest& request,
                     v1::ListTransitionsResponse& response);
  // Calls `take` for each entry, oldest first, until it returns false.
  Status History(const v1::HistoryRequest& request,
                 const std::function<bool(const v1::HistoryEntry&)>& take);
  // NotFound names what there is none of. 0 for an empty name.
  StatusOr<uint32_t> CheckNumber(const std::string& name);

 private:
  StatusOr<StateFilter> Filter(const std::string& check, const std::string& agent);

  Store& store_;
  const Clock& clock_;
};

}  // namespace muster::control
