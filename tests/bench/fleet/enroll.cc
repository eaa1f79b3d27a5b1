#include "tests/bench/fleet/enroll.h"

#include <algorithm>
#include <vector>

#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "tests/bench/fleet/bundle.h"

namespace muster::bench {
namespace {

constexpr size_t kAgentsATransaction = 500;
constexpr absl::Duration kStillGoodFor = absl::Hours(24);

struct New {
  BundledAgent agent;
  control::CertificateRow row;
};

StatusOr<New> Issue(const control::Authority& authority, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const std::string csr, net::NewCertificateRequest(key));
  MUSTER_ASSIGN_OR_RETURN(control::Issued issued, authority.Issue(v1::ROLE_AGENT, name, csr));
  return New{{name, net::DerToPem(issued.chain_der), std::string(key.Reveal())},
             std::move(issued.row)};
}

// What IdentityStore::RedeemToken leaves behind, for many agents in one transaction: a commit for
// each would take longer than all the certificates.
Status PutAgent(sql::Transaction& t, const control::CertificateRow& row, std::string_view labels) {
  MUSTER_RETURN_IF_ERROR(
      t.Execute(
           "INSERT INTO certificates (fingerprint, role, name, serial, not_before, not_after, der, "
           "public_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
           {std::string_view(row.fingerprint), int64_t{row.role}, std::string_view(row.name),
            std::string_view(row.serial), sql::ToMicros(row.not_before),
            sql::ToMicros(row.not_after), sql::Bytes{row.der}, std::string_view(row.public_key)})
          .status());
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, control::NextValue(t, "agent"));
  MUSTER_RETURN_IF_ERROR(
      t.Execute(
           "INSERT INTO agents (id, name, labels, revoked, session_epoch, replica, connected, "
           "version, boot_id, log_epoch, clock_skew_us, facts, certificate_expires_at) "
           "VALUES ($1, $2, $3, 0, 0, '', 0, '', '', '', 0, '{}', $4) ON CONFLICT (name) DO UPDATE "
           "SET labels = excluded.labels, revoked = 0, "
           "certificate_expires_at = excluded.certificate_expires_at",
           {id, std::string_view(row.name), labels, sql::ToMicros(row.not_after)})
          .status());
  return control::AppendAudit(t, {"fleet", "agent.join", row.name, "", SystemClock().Now()});
}

Status PutAgents(control::Store& store, const std::vector<New>& made, std::string_view labels) {
  return store.database().Write([&](sql::Transaction& t) -> Status {
    for (const New& one : made) MUSTER_RETURN_IF_ERROR(PutAgent(t, one.row, labels));
    return OkStatus();
  });
}

StatusOr<bool> IsGood(const BundledAgent& agent, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> chain, net::PemToDer(agent.chain_pem));
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts leaf, net::ReadCertificate(chain.front()));
  return leaf.not_after > now + kStillGoodFor;
}

StatusOr<Bundle> KeptOf(const std::string& path, const std::string& roots_pem) {
  StatusOr<Bundle> bundle = ReadBundle(path);
  if (absl::IsNotFound(bundle.status())) return Bundle{roots_pem, {}};
  MUSTER_RETURN_IF_ERROR(bundle.status());
  if (bundle->roots_pem != roots_pem) {
    return FailedPrecondition("{} holds agents of another cluster: name another file", path);
  }
  std::vector<BundledAgent> good;
  for (BundledAgent& agent : bundle->agents) {
    MUSTER_ASSIGN_OR_RETURN(const bool is_good, IsGood(agent, SystemClock().Now()));
    if (is_good) good.push_back(std::move(agent));
  }
  bundle->agents = std::move(good);
  return bundle;
}

// The first names of the series that the bundle does not hold, as many as it lacks.
std::vector<std::string> Missing(const Bundle& bundle, const EnrollOptions& options) {
  std::vector<std::string> held;
  for (const BundledAgent& agent : bundle.agents) held.push_back(agent.name);
  std::sort(held.begin(), held.end());
  std::vector<std::string> missing;
  for (size_t number = 1; held.size() + missing.size() < options.agents; ++number) {
    std::string name = fmt::format("{}-{:05}", options.prefix, number);
    if (!std::binary_search(held.begin(), held.end(), name)) missing.push_back(std::move(name));
  }
  return missing;
}

}  // namespace

StatusOr<Enrolled> Enroll(const EnrollOptions& options) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, control::LoadClusterKey(options.data + "/cluster.key"));
  const std::string url =
      options.store.empty() ? "sqlite:" + options.data + "/muster.db" : options.store;
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<control::Store> store, control::Store::Open(url));
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<control::Authority> authority,
                          control::Authority::Load(store->identity(), key, SystemClock()));
  MUSTER_ASSIGN_OR_RETURN(Bundle bundle, KeptOf(options.out, authority->RootsPem()));
  const size_t kept = bundle.agents.size();
  const std::string labels = control::PackMap(options.labels);
  const std::vector<std::string> missing = Missing(bundle, options);
  std::vector<New> made;
  for (const std::string& name : missing) {
    MUSTER_ASSIGN_OR_RETURN(New one, Issue(*authority, name));
    bundle.agents.push_back(one.agent);
    made.push_back(std::move(one));
    if (made.size() < kAgentsATransaction && &name != &missing.back()) continue;
    MUSTER_RETURN_IF_ERROR(PutAgents(*store, made, labels));
    made.clear();
  }
  MUSTER_RETURN_IF_ERROR(WriteBundle(options.out, bundle));
  return Enrolled{kept, missing.size()};
}

}  // namespace muster::bench
