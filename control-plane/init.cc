// What `muster-control init` makes.
#include <algorithm>

#include "control-plane/app.h"
#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/store/store.h"
#include "lib/base/file.h"
#include "lib/net/context.h"
#include "lib/net/openssl.h"
#include "lib/net/server_identity.h"
#include "lib/program/program.h"

namespace muster::control {
namespace {

constexpr uint16_t kDefaultPort = 7443;

// The addresses in admin.context: what is advertised, and this host itself.
std::vector<std::string> ContextServers(const Config& config) {
  std::vector<std::string> servers = config.advertise.empty()
                                         ? std::vector<std::string>()
                                         : Advertised(config.advertise, kDefaultPort);
  const std::string local = fmt::format("127.0.0.1:{}", kDefaultPort);
  if (std::find(servers.begin(), servers.end(), local) == servers.end()) servers.push_back(local);
  return servers;
}

StatusOr<net::Context> AdminContext(Store& store, const Authority& authority,
                                    const Config& config) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const std::string csr, net::NewCertificateRequest(key));
  MUSTER_ASSIGN_OR_RETURN(const Issued issued, authority.Issue(v1::ROLE_ADMIN, "root", csr));
  MUSTER_RETURN_IF_ERROR(store.identity().SaveCertificate(
      issued.row, {"control", "operator.create", "root", "admin", SystemClock().Now()}));
  net::Context context;
  context.name = "admin";
  context.servers = ContextServers(config);
  context.identity = {authority.RootsPem(), net::DerToPem(issued.chain_der),
                      std::string(key.Reveal())};
  return context;
}

std::string SettingsYaml(const Config& config) {
  std::string yaml =
      "# Written by muster-control init. docs/reference/control-config.md lists every setting.\n";
  if (!config.store.empty()) yaml += fmt::format("store: \"{}\"\n", config.store);
  if (!config.advertise.empty()) {
    yaml += "advertise:\n";
    for (const std::string& address : config.advertise)
      yaml += fmt::format("  - \"{}\"\n", address);
  }
  return yaml;
}

}  // namespace

StatusOr<std::string> Init(const Config& config) {
  MUSTER_RETURN_IF_ERROR(MakeFolder(config.data));
  for (const std::string& path : {config.KeyPath(), config.ContextPath()}) {
    if (FileExists(path)) {
      return FailedPrecondition(
          "{} exists: there is a control plane in {} already, and nothing was changed", path,
          config.data);
    }
  }
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(config.StoreUrl()));
  if (store->identity().LoadAuthority().ok()) {
    return FailedPrecondition(
        "the store holds an authority already; copy its cluster.key to {} instead", config.data);
  }
  MUSTER_RETURN_IF_ERROR(MakeClusterKey(config.KeyPath()));
  MUSTER_ASSIGN_OR_RETURN(const Secret key, LoadClusterKey(config.KeyPath()));
  MUSTER_ASSIGN_OR_RETURN(
      const std::unique_ptr<Authority> authority,
      Authority::Create(store->identity(), key, SystemClock(), config.lifetimes));
  MUSTER_ASSIGN_OR_RETURN(const net::Context context, AdminContext(*store, *authority, config));
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(config.data + "/control.yaml", SettingsYaml(config)));
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(config.ContextPath(), net::FormatContext(context)));
  return fmt::format(
      "made a control plane in {0}\n\n"
      "next:\n"
      "  muster-control run --data {0}\n"
      "  musterctl --context {0}/admin.context token create --agent NAME\n\n"
      "keep {0}/cluster.key apart from backups of the store: together they are the authority\n",
      config.data);
}

}  // namespace muster::control
