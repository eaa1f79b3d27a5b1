// Enrollment: a join token, or an expired certificate, for a certificate. On a port of its own, for
// callers without a certificate.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "control-plane/pki/authority.h"
#include "control-plane/rpc/gate.h"
#include "lib/base/clock.h"
#include "muster/v1/enrollment.grpc.pb.h"

namespace muster::control {

struct EnrollmentOptions {
  std::function<std::vector<std::string>()> servers;  // what agents are told to dial
  // How long after its end an agent's certificate is still good for another one; 0: not at all.
  absl::Duration expired_agent_grace = absl::Hours(30 * 24);
  // Whether a caller of the address may try now; asked once a call, before anything is read of it.
  std::function<bool(const std::string& address)> may_try = [](const std::string&) { return true; };
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
};

}  // namespace muster::control
