// Enrollment: a join token, or an expired certificate, for a certificate. On a port of its own, for
// callers without a certificate.
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

struct EnrollmentOptions {
  std::function<std::vector<std::string>()> servers;  // what agents are told to dial
  // How long after its end an agent's certificate is still good for another one; 0: not at all.
  absl::Duration expired_agent_grace = absl::Hours(30 * 24);
};

class EnrollmentService final : public v1::Enrollment::CallbackService {
 public:
  EnrollmentService(IdentityStore& store, const Authority& authority, Gate& gate,
                    const Clock& clock, EnrollmentOptions options);

  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context,
                                 const v1::JoinRequest* request,
                                 v1::JoinResponse* response) override;

 private:
  Status Join(const std::string& peer, const v1::JoinRequest& request, v1::JoinResponse& response);
  StatusOr<CertificateRow> Redeem(const std::string& peer, const v1::JoinRequest& request);
  StatusOr<CertificateRow> Readmit(const std::string& peer, const v1::JoinRequest& request);
  StatusOr<CertificateRow> ExpiredAgent(const v1::JoinRequest& request, absl::Time now);

  IdentityStore& store_;
  const Authority& authority_;
  Gate& gate_;
  const Clock& clock_;
  const EnrollmentOptions options_;
  RateLimit limit_{200, 600};
};

}  // namespace muster::control
