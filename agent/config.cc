#include "agent/config.h"

#include <utility>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/net/identity.h"
#include "lib/settings/settings.h"

namespace muster::agent {
namespace {

constexpr uint64_t kLeastBound = 1 << 20;
constexpr uint64_t kMostBound = uint64_t{1} << 40;

Status CheckAddress(const std::string& address) { return ParseHostPort(address).status(); }

// Blocks "-----BEGIN X…-----END X…-----" whose label holds `label`, in order, as one text.
std::string PemBlocks(std::string_view pem, std::string_view label) {
  std::string blocks;
  size_t at = 0;
  while ((at = pem.find("-----BEGIN ", at)) != std::string_view::npos) {
    const size_t end = pem.find("-----END ", at);
    const size_t stop = end == std::string_view::npos ? end : pem.find('\n', end);
    const std::string_view block =
        pem.substr(at, stop == std::string_view::npos ? stop : stop - at + 1);
    if (block.substr(0, block.find('\n')).find(label) != std::string_view::npos) {
      blocks += block;
      if (!blocks.ends_with('\n')) blocks += '\n';
    }
    at += block.size();
  }
  return blocks;
}

}  // namespace

StatusOr<Config> ParseConfig(std::string_view yaml, std::string_view name) {
  Config config;
  Settings spool;
  spool.Add("bound", settings::Size(config.spool.bound_bytes, kLeastBound, kMostBound));
  spool.Add("keep", settings::Duration(config.spool.keep_acknowledged_for, absl::ZeroDuration(),
                                       absl::Hours(24 * 365)));
  Settings jobs;
  jobs.Add("atOnce", settings::Count(config.jobs_at_once, 1, 64));
  Settings settings;
  settings.Add("servers", settings::List(config.servers, CheckAddress));
  settings.Add("enroll", settings::List(config.enroll, CheckAddress));
  settings.Add("policy", settings::Text(config.policy));
  settings.Add("spool", settings::Group(std::move(spool)));
  settings.Add("probeThreads", settings::Count(config.probe_threads, 1, 256));
  settings.Add("jobs", settings::Group(std::move(jobs)));
  settings.Add("logLevel", settings::Level(config.log_level));
  MUSTER_RETURN_IF_ERROR(settings.Read(yaml, name));
  return config;
}

StatusOr<Config> ReadConfig(const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(path));
  return ParseConfig(yaml, path);
}

bool HasIdentity(const std::string& folder) { return FileExists(folder + "/identity.pem"); }

StatusOr<Membership> ReadMembership(const std::string& folder) {
  if (!HasIdentity(folder)) {
    return NotFound(
        "no agent has joined in {0}: run muster-agent join --data {0} --server HOST:7444 "
        "--token-file FILE",
        folder);
  }
  Membership membership;
  MUSTER_ASSIGN_OR_RETURN(const std::string pem, ReadFile(folder + "/identity.pem"));
  MUSTER_ASSIGN_OR_RETURN(membership.identity.roots_pem, ReadFile(folder + "/ca.pem"));
  membership.identity.key_pem = PemBlocks(pem, "PRIVATE KEY");
  membership.identity.chain_pem = PemBlocks(pem, "CERTIFICATE");
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> chain,
                          net::PemToDer(membership.identity.chain_pem));
  if (chain.empty()) return DataLoss("{}/identity.pem holds no certificate: join again", folder);
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts leaf, net::ReadCertificate(chain.front()));
  if (leaf.uris.size() != 1) return DataLoss("{}/identity.pem names no agent: join again", folder);
  MUSTER_ASSIGN_OR_RETURN(const net::Identity identity, net::ParseSpiffeUri(leaf.uris.front()));
  membership.name = identity.name;
  MUSTER_ASSIGN_OR_RETURN(const Config known, ReadConfig(folder + "/agent.yaml"));
  membership.servers = known.servers;
  membership.enroll = known.enroll;
  return membership;
}

Status WriteMembership(const std::string& folder, const Membership& membership) {
  std::string yaml;
  for (const auto& [key, addresses] :
       {std::pair("servers", &membership.servers), std::pair("enroll", &membership.enroll)}) {
    if (addresses->empty()) continue;
    yaml += fmt::format("{}:\n", key);
    for (const std::string& address : *addresses) yaml += fmt::format("  - \"{}\"\n", address);
  }
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(folder + "/agent.yaml", yaml));
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(folder + "/ca.pem", membership.identity.roots_pem));
  return WriteFileAtomically(folder + "/identity.pem",
                             membership.identity.key_pem + membership.identity.chain_pem);
}

v1::Plan ReadPlan(const std::string& folder) {
  v1::Plan plan;
  const StatusOr<std::string> bytes = ReadFile(folder + "/plan.pb");
  if (!bytes.ok()) return plan;
  if (!plan.ParseFromString(*bytes)) {
    LogWarning("the stored plan cannot be read; waiting for the control plane's",
               {{"folder", folder}});
    return {};
  }
  return plan;
}

Status WritePlan(const std::string& folder, const v1::Plan& plan) {
  return WriteFileAtomically(folder + "/plan.pb", plan.SerializeAsString());
}

}  // namespace muster::agent
