// Whose fault it is that a transaction over many did not succeed. Pure.
#pragma once

#include "lib/base/status.h"

namespace muster::control {

// The store is well, and refuses something of what it was given: no later try can succeed, and who
// shared the transaction is to be tried alone.
inline bool LiesInWhatIsStored(const Status& status) {
  using Code = absl::StatusCode;
  return status.code() == Code::kInvalidArgument || status.code() == Code::kInternal ||
         status.code() == Code::kAlreadyExists;
}

}  // namespace muster::control
