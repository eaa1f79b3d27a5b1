#include "agent/config.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <exception>
#include <utility>

#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/net/identity.h"

namespace muster::agent {
namespace {

constexpr uint64_t kLeastBound = 1 << 20;
constexpr uint64_t kMostBound = uint64_t{1} << 40;

StatusOr<std::string> Scalar(const YAML::Node& node, std::string_view where) {
  if (!node.IsScalar()) return InvalidArgument("{}: one value is expected", where);
  return node.Scalar();
}

StatusOr<std::vector<std::string>> Addresses(const YAML::Node& node, std::string_view where) {
  if (!node.IsSequence()) return InvalidArgument("{}: a list of host:port is expected", where);
  std::vector<std::string> addresses;
  for (const YAML::Node& item : node) {
    MUSTER_ASSIGN_OR_RETURN(std::string address, Scalar(item, where));
    MUSTER_RETURN_IF_ERROR(Annotate(ParseHostPort(address).status(), where));
    addresses.push_back(std::move(address));
  }
  if (addresses.empty()) return InvalidArgument("{}: at least one address is needed", where);
  return addresses;
}

Status ReadSpool(const YAML::Node& node, std::string_view where, SpoolOptions& spool) {
  if (!node.IsMap()) return InvalidArgument("{}: {{bound: 256MiB, keep: 24h}} is expected", where);
  for (const auto& item : node) {
    const std::string key = item.first.as<std::string>();
    MUSTER_ASSIGN_OR_RETURN(const std::string value, Scalar(item.second, where));
    if (key == "bound") {
      MUSTER_ASSIGN_OR_RETURN(spool.bound_bytes, ParseSize(value));
      if (spool.bound_bytes < kLeastBound || spool.bound_bytes > kMostBound) {
        return InvalidArgument("{}: bound must be 1MiB to 1024GiB", where);
      }
    } else if (key == "keep") {
      MUSTER_ASSIGN_OR_RETURN(spool.keep_acknowledged_for, ParseDuration(value));
    } else {
      return InvalidArgument("{}: unknown setting spool.{}; known are bound and keep", where, key);
    }
  }
  return OkStatus();
}

Status ReadSetting(const std::string& key, const YAML::Node& node, std::string_view where,
                   Config& config) {
  if (key == "servers") {
    MUSTER_ASSIGN_OR_RETURN(config.servers, Addresses(node, where));
    return OkStatus();
  }
  if (key == "spool") return ReadSpool(node, where, config.spool);
  if (key != "policy" && key != "log_level" && key != "probe_threads") {
    return InvalidArgument(
        "{}: unknown setting {}; known are servers, policy, spool, probe_threads, log_level", where,
        key);
  }
  MUSTER_ASSIGN_OR_RETURN(std::string value, Scalar(node, where));
  if (key == "policy") {
    config.policy = std::move(value);
  } else if (key == "log_level") {
    MUSTER_RETURN_IF_ERROR(Annotate(ParseLogLevel(value).status(), where));
    config.log_level = std::move(value);
  } else if (key == "probe_threads") {
    MUSTER_ASSIGN_OR_RETURN(const uint64_t threads, ParseSize(value));
    if (threads < 1 || threads > 256) return InvalidArgument("{}: 1 to 256 threads", where);
    config.probe_threads = threads;
  }
  return OkStatus();
}

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

StatusOr<uint64_t> ParseSize(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  int shift = -1;
  if (unit.empty() || unit == "B") shift = 0;
  if (unit == "KiB") shift = 10;
  if (unit == "MiB") shift = 20;
  if (unit == "GiB") shift = 30;
  if (error != std::errc() || shift < 0 || number > (UINT64_MAX >> shift)) {
    return InvalidArgument("\"{}\" is no size; write 256MiB, 64KiB, 1GiB or plain bytes", text);
  }
  return number << shift;
}

StatusOr<Config> ParseConfig(std::string_view yaml, std::string_view name) {
  Config config;
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (root.IsNull()) return config;
    if (!root.IsMap()) return InvalidArgument("{}: settings as \"name: value\" are expected", name);
    for (const auto& item : root) {
      const std::string key = item.first.as<std::string>();
      const std::string where = fmt::format("{}:{}: {}", name, item.first.Mark().line + 1, key);
      MUSTER_RETURN_IF_ERROR(ReadSetting(key, item.second, where, config));
    }
  } catch (const std::exception& error) {
    return InvalidArgument("{}: {}", name, error.what());
  }
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
  return membership;
}

Status WriteMembership(const std::string& folder, const Membership& membership) {
  std::string yaml = "servers:\n";
  for (const std::string& server : membership.servers) yaml += fmt::format("  - \"{}\"\n", server);
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
