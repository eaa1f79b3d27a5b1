#include "lib/net/context.h"

#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::net {
namespace {

constexpr std::string_view kJoinPrefix = "muster1.";
constexpr size_t kPinSize = 32;
constexpr size_t kTokenSize = 32;
constexpr size_t kChecksumSize = 4;

StatusOr<Context> ReadNode(const YAML::Node& root, std::string_view name) {
  if (!root.IsMap()) return InvalidArgument("{} is not a context file", name);
  Context context;
  for (const auto& entry : root) {
    const std::string key = entry.first.Scalar();
    if (key == "name")
      context.name = entry.second.as<std::string>();
    else if (key == "servers")
      context.servers = entry.second.as<std::vector<std::string>>();
    else if (key == "ca")
      context.identity.roots_pem = entry.second.as<std::string>();
    else if (key == "certificate")
      context.identity.chain_pem = entry.second.as<std::string>();
    else if (key == "key")
      context.identity.key_pem = entry.second.as<std::string>();
    else
      return InvalidArgument("{}:{}: unknown field \"{}\"", name, entry.first.Mark().line + 1, key);
  }
  if (context.servers.empty()) return InvalidArgument("{} names no servers", name);
  for (const std::string& server : context.servers)
    MUSTER_RETURN_IF_ERROR(ParseHostPort(server).status());
  for (const std::string* pem :
       {&context.identity.roots_pem, &context.identity.chain_pem, &context.identity.key_pem}) {
    if (pem->empty()) return InvalidArgument("{} lacks ca, certificate or key", name);
  }
  return context;
}

void EmitPem(YAML::Emitter& out, const char* key, const std::string& pem) {
  out << YAML::Key << key << YAML::Value << YAML::Literal << pem;
}

}  // namespace

StatusOr<Context> ReadContext(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) == 0 && (found.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    return PermissionDenied("{} holds a private key and every user can read it; run: chmod 600 {}",
                            path, path);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(path));
  return ParseContext(yaml, path);
}

StatusOr<Context> ParseContext(std::string_view yaml, std::string_view name) {
  try {
    return ReadNode(YAML::Load(std::string(yaml)), name);
  } catch (const YAML::Exception& error) {
    return InvalidArgument("{}:{}:{}: {}", name, error.mark.line + 1, error.mark.column + 1,
                           error.msg);
  }
}

std::string FormatContext(const Context& context) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "name" << YAML::Value << context.name;
  out << YAML::Key << "servers" << YAML::Value << context.servers;
  EmitPem(out, "ca", context.identity.roots_pem);
  EmitPem(out, "certificate", context.identity.chain_pem);
  EmitPem(out, "key", context.identity.key_pem);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string FormatJoinString(const JoinString& join) {
  const std::string body = join.pin + join.token;
  return std::string(kJoinPrefix) + Base64UrlEncode(body + Sha256(body).substr(0, kChecksumSize));
}

StatusOr<JoinString> ParseJoinString(std::string_view text) {
  text = Trim(text);
  if (!text.starts_with(kJoinPrefix)) {
    return InvalidArgument(
        "that is not a join string: it begins with \"{}\"; make one with: "
        "musterctl token create --agent NAME",
        kJoinPrefix);
  }
  const StatusOr<std::string> bytes = Base64UrlDecode(text.substr(kJoinPrefix.size()));
  constexpr size_t kSize = kPinSize + kTokenSize + kChecksumSize;
  if (bytes.ok() && bytes->size() < kSize)
    return InvalidArgument("the join string was cut short; copy all of it");
  if (!bytes.ok() || bytes->size() != kSize)
    return InvalidArgument("the join string was changed; copy it again");
  const std::string body = bytes->substr(0, kPinSize + kTokenSize);
  if (!SameBytes(Sha256(body).substr(0, kChecksumSize), bytes->substr(body.size()))) {
    return InvalidArgument(
        "the join string was mistyped: its checksum does not match; copy it again");
  }
  return JoinString{body.substr(0, kPinSize), body.substr(kPinSize)};
}

}  // namespace muster::net
