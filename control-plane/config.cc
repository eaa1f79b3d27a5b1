#include "control-plane/config.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>

#include "lib/base/text.h"

namespace muster::control {
namespace {

using Setter = std::function<Status(const YAML::Node&, Config&)>;

Setter TextInto(std::string Config::*member) {
  return [member](const YAML::Node& node, Config& config) {
    if (!node.IsScalar()) return InvalidArgument("must be a text");
    config.*member = node.Scalar();
    return OkStatus();
  };
}

Setter DurationInto(absl::Duration Config::*member, absl::Duration least, absl::Duration most) {
  return [member, least, most](const YAML::Node& node, Config& config) -> Status {
    if (!node.IsScalar()) return InvalidArgument("must be a duration like 5s");
    MUSTER_ASSIGN_OR_RETURN(config.*member, ParseDuration(node.Scalar()));
    if (config.*member < least || config.*member > most) {
      return InvalidArgument("must be between {} and {}", DurationText(least), DurationText(most));
    }
    return OkStatus();
  };
}

Status SetAdvertise(const YAML::Node& node, Config& config) {
  if (!node.IsSequence()) return InvalidArgument("must be a list of HOST or HOST:PORT");
  config.advertise.clear();
  for (const YAML::Node& entry : node) {
    if (!entry.IsScalar()) return InvalidArgument("must be a list of HOST or HOST:PORT");
    MUSTER_RETURN_IF_ERROR(CheckAdvertised(entry.Scalar()));
    config.advertise.push_back(entry.Scalar());
  }
  return OkStatus();
}

Status SetLogLevel(const YAML::Node& node, Config& config) {
  if (!node.IsScalar()) return InvalidArgument("must be debug, info, warning or error");
  MUSTER_ASSIGN_OR_RETURN(config.log_level, ParseLogLevel(node.Scalar()));
  return OkStatus();
}

const std::map<std::string, Setter>& Setters() {
  static const auto& setters = *new std::map<std::string, Setter>{
      {"store", TextInto(&Config::store)},
      {"redis", TextInto(&Config::redis)},
      {"listen", TextInto(&Config::listen)},
      {"enrollListen", TextInto(&Config::enroll_listen)},
      {"httpListen", TextInto(&Config::http_listen)},
      {"advertise", SetAdvertise},
      {"logLevel", SetLogLevel},
      {"flush", DurationInto(&Config::flush, absl::Milliseconds(100), absl::Seconds(60))},
      {"keepHistory", DurationInto(&Config::keep_history, absl::Hours(1), absl::Hours(24 * 3650))},
      {"keepResolvedAlerts",
       DurationInto(&Config::keep_resolved_alerts, absl::Hours(1), absl::Hours(24 * 3650))},
  };
  return setters;
}

Status At(std::string_view file, const YAML::Mark& mark, std::string_view key,
          const Status& status) {
  return InvalidArgument("{}:{}:{}: {}: {}", file, mark.line + 1, mark.column + 1, key,
                         Message(status));
}

Status ReadNode(const YAML::Node& root, std::string_view file, Config& config) {
  if (root.IsNull()) return OkStatus();
  if (!root.IsMap()) return InvalidArgument("{}:1:1: the file must be a map of settings", file);
  for (const auto& entry : root) {
    const std::string key = entry.first.Scalar();
    const auto setter = Setters().find(key);
    if (setter == Setters().end()) {
      std::string known;
      for (const auto& [name, unused] : Setters()) known += (known.empty() ? "" : ", ") + name;
      return At(file, entry.first.Mark(), key,
                InvalidArgument("there is no such setting; there are {}", known));
    }
    const Status set = setter->second(entry.second, config);
    if (!set.ok()) return At(file, entry.second.Mark(), key, set);
  }
  return OkStatus();
}

}  // namespace

Status ReadConfig(std::string_view yaml, std::string_view file, Config& config) {
  try {
    return ReadNode(YAML::Load(std::string(yaml)), file, config);
  } catch (const YAML::Exception& error) {
    return InvalidArgument("{}:{}:{}: {}", file, error.mark.line + 1, error.mark.column + 1,
                           error.msg);
  }
}

Status CheckAdvertised(std::string_view address) {
  const bool shaped = !address.empty() && address.find_first_of("/@ \t") == std::string_view::npos;
  const bool with_port = ParseHostPort(address).ok() && !ParseHostPort(address)->host.empty();
  const bool host_alone = address.find_first_of(":[]") == std::string_view::npos;
  if (shaped && (with_port || host_alone)) return OkStatus();
  return InvalidArgument(
      "\"{}\" is not HOST or HOST:PORT; write control.example.org or [2001:db8::1]:7443", address);
}

std::vector<std::string> Advertised(const std::vector<std::string>& advertise, uint16_t port) {
  std::vector<std::string> addresses;
  for (const std::string& address : advertise) {
    addresses.push_back(ParseHostPort(address).ok() ? address : FormatHostPort({address, port}));
  }
  if (addresses.empty()) {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    addresses.push_back(FormatHostPort({name, port}));
  }
  return addresses;
}

}  // namespace muster::control
