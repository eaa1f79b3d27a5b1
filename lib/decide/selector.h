// Which agents a selector means: those that carry every label it names. Pure.
#pragma once

#include <google/protobuf/map.h>

#include <map>
#include <string>
#include <string_view>

namespace muster::decide {

// Every agent carries the label agent=NAME besides its own. An empty selector matches all.
inline bool Selects(const google::protobuf::Map<std::string, std::string>& selector,
                    std::string_view agent, const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : selector) {
    if (key == "agent" && value == agent) continue;
    const auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  return true;
}

}  // namespace muster::decide
