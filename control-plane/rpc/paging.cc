#include "control-plane/rpc/paging.h"

#include <charconv>

#include "lib/base/text.h"

namespace muster::control {

std::string MakePageToken(const std::vector<std::string>& parts) {
  std::string joined;
  for (const std::string& part : parts) joined += fmt::format("{}:{}", part.size(), part);
  return Base64UrlEncode(joined);
}

StatusOr<std::vector<std::string>> ReadPageToken(const std::string& token, size_t parts) {
  if (token.empty()) return std::vector<std::string>(parts);
  const Status wrong = InvalidArgument("the page token is not one that this call gave out");
  const StatusOr<std::string> joined = Base64UrlDecode(token);
  if (!joined.ok()) return wrong;
  std::vector<std::string> read;
  std::string_view rest = *joined;
  while (!rest.empty()) {
    size_t size = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
    const auto used = static_cast<size_t>(end - rest.data());
    if (error != std::errc() || used >= rest.size() || *end != ':' ||
        rest.size() - used - 1 < size) {
      return wrong;
    }
    read.emplace_back(rest.substr(used + 1, size));
    rest.remove_prefix(used + 1 + size);
  }
  if (read.size() != parts) return wrong;
  return read;
}

}  // namespace muster::control
