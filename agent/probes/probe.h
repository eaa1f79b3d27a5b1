// One way of looking, once. A probe goes to one address, does not retry, and never outlives its
// deadline. It runs on a thread of the probe pool and may block there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "agent/policy/policy.h"
#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "muster/v1/check.pb.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

// What a probe found. `detail` holds summary, metrics, phases, and for anything but OK a
// transcript. The summary of an OK result holds no figure that changes from one good result to the
// next.
struct ProbeResult {
  v1::CheckStatus status = v1::CHECK_STATUS_UNKNOWN;
  v1::ResultDetail detail;
};

struct ProbeContext {
  const Clock& clock;
  // By Clock::Uptime. What is not finished then is CRITICAL ("timed out after … while …").
  absl::Duration deadline;
  absl::Duration Left() const { return deadline - clock.Uptime(); }
};

class Probe {
 public:
  virtual ~Probe() = default;
  // May be called again and again, by one thread at a time.
  virtual ProbeResult Run(const ProbeContext& context) = 0;
};

// The probe that a spec asks for. PermissionDenied, with what to allow in the policy file, where
// the host's policy does not allow it; InvalidArgument for a spec that makes no sense on this host.
StatusOr<std::unique_ptr<Probe>> MakeProbe(const v1::Probe& spec, const Policy& policy);

}  // namespace muster::agent
