#include "tests/bench/lib/enrol.h"

#include "lib/base/clock.h"
#include "lib/base/random.h"

namespace muster::bench {

StatusOr<net::ClientIdentity> EnrolAgent(control::Store& store, const control::Authority& authority,
                                         const std::string& name, const control::Labels& labels) {
  const absl::Time now = SystemClock().Now();
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const std::string request, net::NewCertificateRequest(key));
  MUSTER_ASSIGN_OR_RETURN(const control::Issued issued,
                          authority.Issue(v1::ROLE_AGENT, name, request));
  const control::TokenRow token{RandomBytes(32), name, labels, now + absl::Hours(1)};
  MUSTER_RETURN_IF_ERROR(
      store.identity().SaveToken(token, {"bench", "token.create", name, "", now}));
  MUSTER_RETURN_IF_ERROR(
      store.identity()
          .RedeemToken(token.hash, issued.row, now, {"bench", "agent.join", name, "", now})
          .status());
  return net::ClientIdentity{authority.RootsPem(), net::DerToPem(issued.chain_der),
                             std::string(key.Reveal())};
}

}  // namespace muster::bench
