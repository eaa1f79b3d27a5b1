#include "tests/bench/fleet/enroll.h"

#include <algorithm>
#include <vector>

#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "tests/bench/fleet/bundle.h"
#include "tests/bench/lib/enrol.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kStillGoodFor = absl::Hours(24);

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
  const std::vector<std::string> missing = Missing(bundle, options);
  for (const std::string& name : missing) {
    MUSTER_ASSIGN_OR_RETURN(net::ClientIdentity identity,
                            EnrolAgent(*store, *authority, name, options.labels));
    bundle.agents.push_back({name, std::move(identity.chain_pem), std::move(identity.key_pem)});
  }
  MUSTER_RETURN_IF_ERROR(WriteBundle(options.out, bundle));
  return Enrolled{kept, missing.size()};
}

}  // namespace muster::bench
