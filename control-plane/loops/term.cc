#include "control-plane/loops/term.h"

namespace muster::control {

bool Term::Renew(absl::Duration until) {
  int64_t now = until_.load();
  while (now > absl::ToInt64Microseconds(clock_.Uptime())) {
    if (until_.compare_exchange_weak(now, absl::ToInt64Microseconds(until))) return true;
  }
  return false;
}

Status Term::Note(Status status) {
  if (IsFenced(status)) {
    ++refused_;
    End();
  }
  return status;
}

}  // namespace muster::control
