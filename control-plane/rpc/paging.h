// Page sizes and page tokens of list calls. A token is opaque to clients: base64url of its parts,
// each with its length, so that any text may stand in it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/time/time.h>

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

// A place in a list that begins with the newest.
struct NewestFirst {
  absl::Time before = absl::FromUnixMicros(INT64_MAX / 2);
  std::string id;
};
std::string MakePageToken(const NewestFirst& last);
StatusOr<NewestFirst> ReadNewestFirst(const std::string& token);

}  // namespace muster::control
