// Any bytes as replies, whole and in pieces: the same replies, within the limits.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lib/redis/reply.h"

namespace {

using namespace muster;
using redis::Reply;

constexpr redis::ReplyLimits kLimits{.bytes = 4096, .elements = 64};

struct Size {
  size_t bytes = 0;
  size_t elements = 0;
};

void Measure(const Reply& reply, size_t depth, Size& size) {
  if (depth > redis::kDeepestReply + 1) std::abort();
  if (reply.text() != nullptr) size.bytes += reply.text()->size();
  if (reply.refusal() != nullptr) size.bytes += reply.refusal()->text.size();
  if (reply.array() == nullptr) return;
  size.elements += reply.array()->size();
  for (const Reply& part : *reply.array()) Measure(part, depth + 1, size);
}

// How many replies the bytes hold, in chunks; each is measured.
size_t Count(std::string_view bytes, size_t chunk) {
  redis::ReplyReader reader(kLimits);
  size_t count = 0;
  while (!bytes.empty()) {
    reader.Feed(bytes.substr(0, chunk));
    bytes.remove_prefix(std::min(chunk, bytes.size()));
    while (true) {
      const auto reply = reader.Next();
      if (!reply.ok()) return count;
      if (!reply->has_value()) break;
      Size size;
      Measure(**reply, 0, size);
      if (size.bytes > kLimits.bytes || size.elements > kLimits.elements) std::abort();
      ++count;
    }
  }
  return count;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (Count(bytes, 1) != Count(bytes, 1024)) std::abort();
  return 0;
}
