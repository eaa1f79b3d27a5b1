#include "control-plane/rpc/paging.h"

#include <charconv>

#include "lib/base/text.h"

namespace muster::control {

namespace {

Status NotOurs() { return InvalidArgument("the page token is not one that this call gave out"); }

}  // namespace

std::string MakePageToken(const std::vector<std::string>& parts) {
  std::string joined;
  for (const std::string& part : parts) joined += fmt::format("{}:{}", part.size(), part);
  return Base64UrlEncode(joined);
}

StatusOr<std::vector<std::string>> ReadPageToken(const std::string& token, size_t parts) {
  if (token.empty()) return std::vector<std::string>(parts);
  const Status wrong = NotOurs();
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

std::string MakePageToken(const NewestFirst& last) {
  return MakePageToken({fmt::format("{}", absl::ToUnixMicros(last.before)), last.id});
}

StatusOr<NewestFirst> ReadNewestFirst(const std::string& token) {
  if (token.empty()) return NewestFirst{};
  MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> parts, ReadPageToken(token, 2));
  int64_t micros = 0;
  const char* end = parts[0].data() + parts[0].size();
  const auto read = std::from_chars(parts[0].data(), end, micros);
  if (read.ec != std::errc() || read.ptr != end) return NotOurs();
  return NewestFirst{absl::FromUnixMicros(micros), std::move(parts[1])};
}

}  // namespace muster::control
