// A program's settings file: a YAML map whose every key is known. What the file does not name keeps
// its default. Each error names file, line, column, key and remedy.
//
//   Settings settings;
//   settings.Add("flush", settings::Duration(config.flush, absl::Milliseconds(100),
//   absl::Minutes(1))); MUSTER_RETURN_IF_ERROR(settings.Read(yaml, path));
//
// The targets must outlive Read. After an error some targets are set: do not use them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/log.h"
#include "lib/base/status.h"

namespace YAML {
class Node;
}  // namespace YAML

namespace muster {

class Settings {
 public:
  // What is wrong is said without its place: Read adds that.
  struct Place {
    std::string_view file;
    std::string_view key;  // with the groups that it is in: "spool.bound"
  };
  using Setter = std::function<Status(const YAML::Node&, const Place&)>;
  void Add(std::string key, Setter setter);
  Status Read(std::string_view yaml, std::string_view file) const;
  // Inside another setting, whose place is given.
  Status ReadNode(const YAML::Node& node, const Place& group) const;

 private:
  std::map<std::string, Setter> setters_;
};

namespace settings {

Settings::Setter Text(std::string& into);
// One that `check` accepts.
Settings::Setter Text(std::string& into, std::function<Status(const std::string&)> check);
Settings::Setter Duration(absl::Duration& into, absl::Duration least, absl::Duration most);
// "256MiB", "64KiB", "1GiB" or plain bytes.
Settings::Setter Size(uint64_t& into, uint64_t least, uint64_t most);
Settings::Setter Count(size_t& into, size_t least, size_t most);
Settings::Setter Level(LogLevel& into);
// A list whose entries `check` accepts; at least one.
Settings::Setter List(std::vector<std::string>& into,
                      std::function<Status(const std::string&)> check);
Settings::Setter Group(Settings inner);

}  // namespace settings

// "256MiB", "64KiB", "1GiB" or plain bytes.
StatusOr<uint64_t> ParseSize(std::string_view text);
std::string SizeText(uint64_t bytes);

}  // namespace muster
