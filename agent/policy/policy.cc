#include "agent/policy/policy.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include "lib/base/file.h"

namespace muster::agent {
namespace {

// The default policy allows all but the last.
constexpr std::array<std::string_view, 13> kKinds = {
    "http", "tcp",  "tls",     "dns",  "icmp",        "postgres", "redis",
    "grpc", "host", "process", "file", "wal_archive", "plugin"};
constexpr std::array<std::string_view, 4> kJobs = {"command", "backup", "restore", "forget"};
// Link-local IPv4 is left out: clouds serve their metadata there.
constexpr std::array<std::string_view, 7> kNetworks = {
    "127.0.0.0/8",    "::1/128",  "10.0.0.0/8", "172.16.0.0/12",
    "192.168.0.0/16", "fc00::/7", "fe80::/10"};

template <typename List>
bool Contains(const List& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

std::optional<Network> ParseNetwork(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  Network network;
  std::array<char, 16> bytes{};
  if (inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) {
    network.bytes.assign(bytes.data(), 4);
  } else if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) {
    network.bytes.assign(bytes.data(), 16);
  } else {
    return std::nullopt;
  }
  const int bits = static_cast<int>(network.bytes.size()) * 8;
  network.prefix = bits;
  if (slash == std::string_view::npos) return network;
  const std::string_view prefix = text.substr(slash + 1);
  const auto [end, error] =
      std::from_chars(prefix.data(), prefix.data() + prefix.size(), network.prefix);
  if (error != std::errc() || end != prefix.data() + prefix.size()) return std::nullopt;
  if (network.prefix < 0 || network.prefix > bits) return std::nullopt;
  return network;
}

bool Covers(const Network& network, std::string_view address) {
  if (network.bytes.size() != address.size()) return false;
  for (int bit = 0; bit < network.prefix; bit += 8) {
    const int left = std::min(8, network.prefix - bit);
    const auto mask = static_cast<unsigned char>(0xff00 >> left);
    const auto at = static_cast<size_t>(bit / 8);
    if (((static_cast<unsigned char>(network.bytes[at]) ^ static_cast<unsigned char>(address[at])) &
         mask) != 0) {
      return false;
    }
  }
  return true;
}

// The address's bytes; an IPv4 address in IPv6 clothing counts as IPv4. Empty for other families.
std::string AddressBytes(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &address, sizeof in);
    return {reinterpret_cast<const char*>(&in.sin_addr), 4};
  }
  if (address.sa_family != AF_INET6) return {};
  sockaddr_in6 in;
  std::memcpy(&in, &address, sizeof in);
  const char* bytes = reinterpret_cast<const char*>(&in.sin6_addr);
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) return {bytes + 12, 4};
  return {bytes, 16};
}

std::string AddressText(std::string_view bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
  if (inet_ntop(family, bytes.data(), text.data(), text.size()) == nullptr) return "?";
  return text.data();
}

// Absolute, without "..", and with every link that exists followed.
StatusOr<std::filesystem::path> TruePath(const std::string& path) {
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos) {
    return InvalidArgument("'{}' is not an absolute path", path);
  }
  std::error_code error;
  std::filesystem::path real = std::filesystem::weakly_canonical(path, error);
  if (error) return PermissionDenied("cannot follow {}: {}", path, error.message());
  return real;
}

bool IsUnder(const std::filesystem::path& path, const std::filesystem::path& folder) {
  auto at = path.begin();
  for (const auto& part : folder) {
    if (part.empty()) continue;  // a slash at the end
    if (at == path.end() || *at != part) return false;
    ++at;
  }
  return true;
}

bool IsUnderAny(const std::filesystem::path& path, const std::vector<std::string>& folders) {
  return std::any_of(folders.begin(), folders.end(), [&](const std::string& folder) {
    const StatusOr<std::filesystem::path> real = TruePath(folder);
    return real.ok() && IsUnder(path, *real);
  });
}

// Others than root and the agent's own user may not change what stands at the path, nor put
// something else there.
Status CheckUnchangeable(std::filesystem::path path) {
  for (bool first = true;; first = false, path = path.parent_path()) {
    struct stat facts {};
    if (stat(path.c_str(), &facts) != 0) {
      return NotFound("{} cannot be started: {}", path.native(), std::strerror(errno));
    }
    if (first && !S_ISREG(facts.st_mode)) return PermissionDenied("{} is no file", path.native());
    if (facts.st_uid != 0 && facts.st_uid != geteuid()) {
      return PermissionDenied("{} belongs to user {}: run chown root {}", path.native(),
                              facts.st_uid, path.native());
    }
    // In a folder like /tmp, only its owner replaces a file.
    const bool sticky = S_ISDIR(facts.st_mode) && (facts.st_mode & S_ISVTX) != 0;
    if ((facts.st_mode & 022) != 0 && !sticky) {
      return PermissionDenied("others may write {}: run chmod go-w {}", path.native(),
                              path.native());
    }
    if (path == path.parent_path()) return OkStatus();
  }
}

bool IsVariable(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (name.empty() || !letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c); });
}

// Walks the document; the first error wins, and names its line and column.
class Reader {
 public:
  explicit Reader(std::string_view name) : name_(name) {}

  Status Error(const YAML::Node& node, std::string_view what) const {
    const YAML::Mark mark = node.Mark();
    return InvalidArgument("{}:{}:{}: {}", name_, mark.line + 1, mark.column + 1, what);
  }

  StatusOr<std::vector<std::string>> Texts(const YAML::Node& node, std::string_view key) const {
    if (!node.IsSequence()) return Error(node, fmt::format("{} must be a list, like [a, b]", key));
    std::vector<std::string> texts;
    for (const YAML::Node& item : node) {
      if (!item.IsScalar() || item.Scalar().empty()) {
        return Error(item, fmt::format("an entry of {} must be text", key));
      }
      texts.push_back(item.Scalar());
    }
    return texts;
  }

  // `what`: "probe", of which `known` are all that there are.
  template <typename List>
  StatusOr<std::vector<std::string>> Kinds(const YAML::Node& node, std::string_view what,
                                           const List& known) const {
    MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> kinds, Texts(node, fmt::format("{}s", what)));
    for (size_t i = 0; i < kinds.size(); ++i) {
      if (Contains(known, kinds[i])) continue;
      return Error(node[i], fmt::format("no {} is named '{}'; there are {}", what, kinds[i],
                                        fmt::join(known, ", ")));
    }
    return kinds;
  }

  StatusOr<std::vector<std::string>> Variables(const YAML::Node& node) const {
    MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> names, Texts(node, "environment"));
    for (size_t i = 0; i < names.size(); ++i) {
      std::string_view name = names[i];
      if (name.ends_with('*')) name.remove_suffix(1);
      if (IsVariable(name)) continue;
      return Error(node[i],
                   fmt::format("'{}' is not a variable, like REPORT_DAY or REPORT_*", names[i]));
    }
    return names;
  }

  StatusOr<std::vector<std::string>> Reports(const YAML::Node& node) const {
    MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> reports, Texts(node, "reports"));
    for (size_t i = 0; i < reports.size(); ++i) {
      const std::string_view entry = reports[i];
      const size_t colon = entry.find(':');
      const bool whole = colon != std::string_view::npos && colon > 0 && colon + 1 < entry.size();
      if (whole && entry.substr(0, colon).find('*') == std::string_view::npos) continue;
      return Error(node[i], fmt::format("'{}' does not say who may report what, like "
                                        "\"deploy:nightly-report\" or \"deploy:*\"",
                                        entry));
    }
    return reports;
  }

  StatusOr<std::vector<Network>> Networks(const YAML::Node& node) const {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> texts, Texts(node, "networks"));
    std::vector<Network> networks;
    for (size_t i = 0; i < texts.size(); ++i) {
      std::optional<Network> network = ParseNetwork(texts[i]);
      if (!network) {
        return Error(node[i], fmt::format("'{}' is not a network, like 10.0.0.0/8 or \"fc00::/7\"",
                                          texts[i]));
      }
      networks.push_back(std::move(*network));
    }
    return networks;
  }

  StatusOr<std::vector<std::string>> Paths(const YAML::Node& node, std::string_view key) const {
    MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> paths, Texts(node, key));
    for (size_t i = 0; i < paths.size(); ++i) {
      if (paths[i][0] == '/') continue;
      return Error(node[i], fmt::format("'{}' is not an absolute path", paths[i]));
    }
    return paths;
  }

  StatusOr<bool> Boolean(const YAML::Node& node, std::string_view key) const {
    bool value = false;
    if (node.IsScalar() && YAML::convert<bool>::decode(node, value)) return value;
    return Error(node, fmt::format("{} must be true or false", key));
  }

 private:
  std::string name_;
};

}  // namespace

Policy Policy::Default() {
  Policy policy;
  policy.name_ = "the agent's policy file";
  policy.probes_.assign(kKinds.begin(), kKinds.end() - 1);
  for (const std::string_view network : kNetworks)
    policy.networks_.push_back(*ParseNetwork(network));
  policy.paths_ = {"/etc/muster/secrets"};
  return policy;
}

StatusOr<Policy> Policy::Load(const std::string& path) {
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) {
    if (errno == ENOENT) return NotFound("there is no policy file {}", path);
    return Unavailable("cannot look at {}: {}", path, std::strerror(errno));
  }
  if (facts.st_uid != 0 && facts.st_uid != geteuid()) {
    return PermissionDenied("{} belongs to user {}: run chown root {}", path, facts.st_uid, path);
  }
  if ((facts.st_mode & 022) != 0) {
    return PermissionDenied("others may write {}: run chmod go-w {}", path, path);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  return Parse(content, path);
}

StatusOr<Policy> Policy::Parse(std::string_view yaml, std::string_view name) try {
  Policy policy = Default();
  policy.name_ = std::string(name);
  const Reader reader(name);
  const YAML::Node root = YAML::Load(std::string(yaml));
  if (root.IsNull()) return policy;
  if (!root.IsMap()) return reader.Error(root, "a policy is a mapping, like probes: [http]");
  std::vector<std::string> seen;
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (Contains(seen, key)) return reader.Error(entry.first, fmt::format("{} stands twice", key));
    seen.push_back(key);
    if (key == "probes") {
      MUSTER_ASSIGN_OR_RETURN(policy.probes_, reader.Kinds(entry.second, "probe", kKinds));
    } else if (key == "networks") {
      MUSTER_ASSIGN_OR_RETURN(policy.networks_, reader.Networks(entry.second));
    } else if (key == "paths") {
      MUSTER_ASSIGN_OR_RETURN(policy.paths_, reader.Paths(entry.second, key));
    } else if (key == "programs") {
      MUSTER_ASSIGN_OR_RETURN(policy.programs_, reader.Paths(entry.second, key));
    } else if (key == "env_secrets") {
      MUSTER_ASSIGN_OR_RETURN(policy.env_secrets_, reader.Texts(entry.second, key));
    } else if (key == "systemd_credentials") {
      MUSTER_ASSIGN_OR_RETURN(policy.systemd_credentials_, reader.Boolean(entry.second, key));
    } else if (key == "jobs") {
      MUSTER_ASSIGN_OR_RETURN(policy.jobs_, reader.Kinds(entry.second, "job", kJobs));
    } else if (key == "commands") {
      MUSTER_ASSIGN_OR_RETURN(policy.commands_, reader.Paths(entry.second, key));
    } else if (key == "environment") {
      MUSTER_ASSIGN_OR_RETURN(policy.environment_, reader.Variables(entry.second));
    } else if (key == "reports") {
      MUSTER_ASSIGN_OR_RETURN(policy.reports_, reader.Reports(entry.second));
    } else {
      return reader.Error(
          entry.first, fmt::format("no setting '{}'; there are probes, networks, paths, programs, "
                                   "env_secrets, systemd_credentials, jobs, commands, "
                                   "environment and reports",
                                   key));
    }
  }
  return policy;
} catch (const YAML::Exception& error) {
  return InvalidArgument("{}:{}:{}: {}", name, error.mark.line + 1, error.mark.column + 1,
                         error.msg);
}

Status Policy::AllowProbe(std::string_view kind) const {
  if (Contains(probes_, kind)) return OkStatus();
  return PermissionDenied("this host does not allow {} probes: add {} to probes in {}", kind, kind,
                          name_);
}

Status Policy::AllowAddress(const sockaddr& address) const {
  const std::string bytes = AddressBytes(address);
  if (bytes.empty()) return PermissionDenied("address family {} is not allowed", address.sa_family);
  for (const Network& network : networks_) {
    if (Covers(network, bytes)) return OkStatus();
  }
  const std::string text = AddressText(bytes);
  return PermissionDenied("this host does not allow connections to {}: add {}/{} to networks in {}",
                          text, text, bytes.size() * 8, name_);
}

Status Policy::AllowPath(const std::string& path) const {
  MUSTER_ASSIGN_OR_RETURN(const std::filesystem::path real, TruePath(path));
  if (IsUnderAny(real, paths_)) return OkStatus();
  return PermissionDenied("this host does not allow the path {}: add {} to paths in {}", path,
                          real.native(), name_);
}

Status Policy::AllowProgram(const std::string& path) const {
  MUSTER_ASSIGN_OR_RETURN(const std::filesystem::path real, TruePath(path));
  if (IsUnderAny(real, programs_)) return OkStatus();
  return PermissionDenied("this host does not allow the program {}: add {} to programs in {}", path,
                          real.native(), name_);
}

Status Policy::AllowJob(std::string_view kind) const {
  if (Contains(jobs_, kind)) return OkStatus();
  return PermissionDenied("this host does not allow {} jobs: add {} to jobs in {}", kind, kind,
                          name_);
}

StatusOr<std::string> Policy::AllowCommand(const std::string& path) const {
  MUSTER_ASSIGN_OR_RETURN(const std::filesystem::path real, TruePath(path));
  if (!IsUnderAny(real, commands_)) {
    return PermissionDenied("this host does not allow the command {}: add {} to commands in {}",
                            path, real.native(), name_);
  }
  MUSTER_RETURN_IF_ERROR(CheckUnchangeable(real));
  return real.native();
}

Status Policy::AllowVariable(std::string_view name) const {
  const bool allowed = IsVariable(name) && std::any_of(environment_.begin(), environment_.end(),
                                                       [&](std::string_view entry) {
                                                         if (!entry.ends_with('*'))
                                                           return name == entry;
                                                         entry.remove_suffix(1);
                                                         return name.starts_with(entry);
                                                       });
  if (allowed) return OkStatus();
  return PermissionDenied("this host does not allow jobs to set {}: add {} to environment in {}",
                          name, name, name_);
}

Status Policy::AllowReport(std::string_view user, std::string_view job) const {
  if (user == "root") return OkStatus();
  for (std::string_view entry : reports_) {
    if (entry.substr(0, entry.find(':')) != user) continue;
    entry.remove_prefix(user.size() + 1);
    const bool beginning = entry.ends_with('*');
    if (beginning) entry.remove_suffix(1);
    if (beginning ? job.starts_with(entry) : job == entry) return OkStatus();
  }
  return PermissionDenied(
      "this host does not let {0} report runs of {1}: add \"{0}:{1}\" to reports in {2}", user, job,
      name_);
}

Status Policy::AllowSecret(std::string_view reference) const {
  if (reference.starts_with("file:")) return AllowPath(std::string(reference.substr(5)));
  if (reference.starts_with("env:")) {
    const std::string_view variable = reference.substr(4);
    if (Contains(env_secrets_, variable)) return OkStatus();
    return PermissionDenied("this host does not allow {}: add {} to env_secrets in {}", reference,
                            variable, name_);
  }
  if (reference.starts_with("systemd:")) {
    if (systemd_credentials_) return OkStatus();
    return PermissionDenied("this host does not allow {}: set systemd_credentials: true in {}",
                            reference, name_);
  }
  return InvalidArgument("a secret is file:/PATH, env:NAME or systemd:NAME");
}

StatusOr<Secret> Policy::ReadSecret(std::string_view reference) const {
  MUSTER_RETURN_IF_ERROR(AllowSecret(reference));
  return ReadSecretReference(reference);
}

}  // namespace muster::agent
