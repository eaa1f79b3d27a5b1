#include "tests/bench/fleet/bundle.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "lib/base/file.h"

namespace muster::bench {
namespace {

using nlohmann::json;

// Empty unless the line is an object that holds the text.
std::string TextOf(const json& line, const char* key) {
  return line.is_object() && line.contains(key) && line[key].is_string() ? line[key] : "";
}

}  // namespace

StatusOr<Bundle> ReadBundle(const std::string& path) {
  std::ifstream file(path);
  if (!file) return NotFound("{} is not there: make it with fleet enroll", path);
  Bundle bundle;
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    const json read = json::parse(line, nullptr, false);
    BundledAgent agent{TextOf(read, "name"), TextOf(read, "chain"), TextOf(read, "key")};
    if (number == 1) {
      bundle.roots_pem = TextOf(read, "roots");
      if (bundle.roots_pem.empty()) return DataLoss("{}:1 names no authority", path);
    } else if (agent.name.empty() || agent.chain_pem.empty() || agent.key_pem.empty()) {
      return DataLoss("{}:{} is not an identity", path, number);
    } else {
      bundle.agents.push_back(std::move(agent));
    }
  }
  if (bundle.roots_pem.empty()) return DataLoss("{} is empty", path);
  return bundle;
}

Status WriteBundle(const std::string& path, const Bundle& bundle) {
  std::string text = json{{"roots", bundle.roots_pem}}.dump() + "\n";
  for (const BundledAgent& agent : bundle.agents) {
    text += json{{"name", agent.name}, {"chain", agent.chain_pem}, {"key", agent.key_pem}}.dump();
    text += '\n';
  }
  return WriteFileAtomically(path, text);
}

}  // namespace muster::bench
