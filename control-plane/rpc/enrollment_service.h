// Enrollment: a join token for a certificate. On a port of its own, for callers without a
// certificate.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/pki/authority.h"
#include "control-plane/rpc/gate.h"
#include "lib/base/clock.h"
#include "muster/v1/enrollment.grpc.pb.h"

namespace muster::control {

// At most `burst` calls of one address at once, refilled at `per_minute`. Bounded in memory.
class RateLimit {
 public:
  RateLimit(double burst, double per_minute) : burst_(burst), per_minute_(per_minute) {}
  bool Allow(const std::string& who, absl::Duration uptime);

 private:
  struct Bucket {
    double left = 0;
    absl::Duration at;
  };
  const double burst_;
  const double per_minute_;
  absl::Mutex mutex_;
  std::map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

class EnrollmentService final : public v1::Enrollment::CallbackService {
 public:
  using Servers = std::function<std::vector<std::string>()>;
  EnrollmentService(IdentityStore& store, const Authority& authority, Gate& gate,
                    const Clock& clock, Servers servers);

  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context,
                                 const v1::JoinRequest* request,
                                 v1::JoinResponse* response) override;

 private:
  Status Join(const std::string& peer, const v1::JoinRequest& request, v1::JoinResponse& response);

  IdentityStore& store_;
  const Authority& authority_;
  Gate& gate_;
  const Clock& clock_;
  const Servers servers_;
  RateLimit limit_{200, 600};
};

}  // namespace muster::control
