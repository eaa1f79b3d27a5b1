#include "lib/settings/settings.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <utility>

#include "lib/base/text.h"

namespace muster {
namespace {

// What a setter found wrong in a group already carries its place.
constexpr char kPlaced[] = "muster.settings.placed";

Status At(std::string_view file, const YAML::Mark& mark, std::string_view key,
          const Status& status) {
  if (status.GetPayload(kPlaced).has_value()) return status;
  Status placed = InvalidArgument("{}:{}:{}: {}: {}", file, mark.line + 1, mark.column + 1, key,
                                  Message(status));
  placed.SetPayload(kPlaced, absl::Cord());
  return placed;
}

StatusOr<std::string> Scalar(const YAML::Node& node, std::string_view what) {
  if (!node.IsScalar()) return InvalidArgument("must be {}", what);
  return node.Scalar();
}

template <typename Number>
StatusOr<Number> ParseNumber(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    return InvalidArgument("\"{}\" is no whole number", text);
  }
  return number;
}

}  // namespace

void Settings::Add(std::string key, Setter setter) {
  setters_.emplace(std::move(key), std::move(setter));
}

Status Settings::ReadNode(const YAML::Node& root, const Place& group) const {
  if (root.IsNull()) return OkStatus();
  if (!root.IsMap()) return InvalidArgument("must be a map of settings, as \"name: value\"");
  for (const auto& entry : root) {
    const std::string key =
        fmt::format("{}{}{}", group.key, group.key.empty() ? "" : ".", entry.first.Scalar());
    const auto setter = setters_.find(entry.first.Scalar());
    if (setter == setters_.end()) {
      std::string known;
      for (const auto& [name, unused] : setters_) known += (known.empty() ? "" : ", ") + name;
      return At(group.file, entry.first.Mark(), key,
                InvalidArgument("there is no such setting; there are {}", known));
    }
    const Status set = setter->second(entry.second, {group.file, key});
    if (!set.ok()) return At(group.file, entry.second.Mark(), key, set);
  }
  return OkStatus();
}

Status Settings::Read(std::string_view yaml, std::string_view file) const {
  try {
    const Status read = ReadNode(YAML::Load(std::string(yaml)), {file, ""});
    if (read.ok() || read.GetPayload(kPlaced).has_value()) return read;
    return InvalidArgument("{}:1:1: the file {}", file, Message(read));
  } catch (const YAML::Exception& error) {
    return InvalidArgument("{}:{}:{}: {}", file, error.mark.line + 1, error.mark.column + 1,
                           error.msg);
  }
}

namespace settings {

Settings::Setter Text(std::string& into) {
  return [&into](const YAML::Node& node, const Settings::Place&) -> Status {
    MUSTER_ASSIGN_OR_RETURN(into, Scalar(node, "a text"));
    return OkStatus();
  };
}

Settings::Setter Text(std::string& into, std::function<Status(const std::string&)> check) {
  return [&into, check = std::move(check)](const YAML::Node& node, const Settings::Place&) {
    MUSTER_ASSIGN_OR_RETURN(into, Scalar(node, "a text"));
    return check(into);
  };
}

Settings::Setter Duration(absl::Duration& into, absl::Duration least, absl::Duration most) {
  return [&into, least, most](const YAML::Node& node, const Settings::Place&) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, Scalar(node, "a duration like 5s"));
    MUSTER_ASSIGN_OR_RETURN(into, ParseDuration(text));
    if (into >= least && into <= most) return OkStatus();
    return InvalidArgument("must be between {} and {}", DurationText(least), DurationText(most));
  };
}

Settings::Setter Size(uint64_t& into, uint64_t least, uint64_t most) {
  return [&into, least, most](const YAML::Node& node, const Settings::Place&) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, Scalar(node, "a size like 256MiB"));
    MUSTER_ASSIGN_OR_RETURN(into, ParseSize(text));
    if (into >= least && into <= most) return OkStatus();
    return InvalidArgument("must be between {} and {}", SizeText(least), SizeText(most));
  };
}

Settings::Setter Count(size_t& into, size_t least, size_t most) {
  return [&into, least, most](const YAML::Node& node, const Settings::Place&) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, Scalar(node, "a whole number"));
    MUSTER_ASSIGN_OR_RETURN(into, ParseNumber<size_t>(text));
    if (into >= least && into <= most) return OkStatus();
    return InvalidArgument("must be between {} and {}", least, most);
  };
}

Settings::Setter Level(LogLevel& into) {
  return [&into](const YAML::Node& node, const Settings::Place&) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, Scalar(node, "debug, info, warning or error"));
    MUSTER_ASSIGN_OR_RETURN(into, ParseLogLevel(text));
    return OkStatus();
  };
}

Settings::Setter List(std::vector<std::string>& into,
                      std::function<Status(const std::string&)> check) {
  return
      [&into, check = std::move(check)](const YAML::Node& node, const Settings::Place&) -> Status {
        if (!node.IsSequence() || node.size() == 0) {
          return InvalidArgument("must be a list with at least one entry");
        }
        into.clear();
        for (const YAML::Node& entry : node) {
          MUSTER_ASSIGN_OR_RETURN(std::string text, Scalar(entry, "a list of texts"));
          MUSTER_RETURN_IF_ERROR(check(text));
          into.push_back(std::move(text));
        }
        return OkStatus();
      };
}

Settings::Setter Group(Settings inner) {
  return [inner = std::move(inner)](const YAML::Node& node, const Settings::Place& place) {
    return inner.ReadNode(node, place);
  };
}

}  // namespace settings

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

std::string SizeText(uint64_t bytes) {
  for (const auto& [shift, unit] : {std::pair{30, "GiB"}, {20, "MiB"}, {10, "KiB"}}) {
    const uint64_t one = uint64_t{1} << shift;
    if (bytes >= one && bytes % one == 0) return fmt::format("{}{}", bytes / one, unit);
  }
  return fmt::format("{}B", bytes);
}

}  // namespace muster
