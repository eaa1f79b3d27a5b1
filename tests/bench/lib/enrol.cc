#include "tests/bench/lib/enrol.h"

#include "lib/base/clock.h"
#include "lib/base/random.h"

namespace muster::bench {
namespace {

struct Issue {
  control::CertificateRow row;
  net::ClientIdentity identity;
};

StatusOr<Issue> IssueTo(const control::Authority& authority, v1::Role role,
                        const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const std::string request, net::NewCertificateRequest(key));
  MUSTER_ASSIGN_OR_RETURN(const control::Issued issued, authority.Issue(role, name, request));
  return Issue{issued.row,
               net::ClientIdentity{authority.RootsPem(), net::DerToPem(issued.chain_der),
                                   std::string(key.Reveal())}};
}

}  // namespace

StatusOr<net::ClientIdentity> EnrolAgent(control::Store& store, const control::Authority& authority,
                                         const std::string& name, const control::Labels& labels) {
  const absl::Time now = SystemClock().Now();
  MUSTER_ASSIGN_OR_RETURN(Issue issue, IssueTo(authority, v1::ROLE_AGENT, name));
  const control::TokenRow token{RandomBytes(32), name, labels, now + absl::Hours(1)};
  MUSTER_RETURN_IF_ERROR(
      store.identity().SaveToken(token, {"bench", "token.create", name, "", now}));
  MUSTER_RETURN_IF_ERROR(
      store.identity()
          .RedeemToken(token.hash, issue.row, now, {"bench", "agent.join", name, "", now})
          .status());
  return std::move(issue.identity);
}

StatusOr<net::ClientIdentity> AddViewer(control::Store& store, const control::Authority& authority,
                                        const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(Issue issue, IssueTo(authority, v1::ROLE_VIEWER, name));
  MUSTER_RETURN_IF_ERROR(store.identity().SaveCertificate(
      issue.row, {"bench", "certificate.issue", name, "", SystemClock().Now()}));
  return std::move(issue.identity);
}

}  // namespace muster::bench
