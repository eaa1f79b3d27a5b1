// Page sizes and page tokens of list calls. A token is opaque to clients: base64url of its parts,
// each with its length, so that any text may stand in it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/status.h"

namespace muster::control {

inline constexpr uint32_t kDefaultPage = 500;
inline constexpr uint32_t kLargestPage = 1000;

inline uint32_t PageSize(uint32_t asked) {
  return asked == 0 ? kDefaultPage : std::min(asked, kLargestPage);
}

std::string MakePageToken(const std::vector<std::string>& parts);
// InvalidArgument unless the token is one of ours with that many parts. An empty token is empty
// parts.
StatusOr<std::vector<std::string>> ReadPageToken(const std::string& token, size_t parts);

}  // namespace muster::control
