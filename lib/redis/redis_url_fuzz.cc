// Any bytes as a Redis URL: refused or read, and neither an error nor the name shows the password.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lib/redis/address.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster;
  const std::string_view url(reinterpret_cast<const char*>(data), size);
  const auto address = redis::Address::Parse(url, redis::UrlFrom::kSettings);
  const auto typed = redis::Address::Parse(url, redis::UrlFrom::kCommandLine);
  if (typed.ok() && !address.ok()) std::abort();
  // The password of the corpus, in whatever place it ends up.
  if (!address.ok()) {
    if (Message(address.status()).find("s3cr") != std::string_view::npos) std::abort();
    return 0;
  }
  const redis::Address copy = address->Copy();
  if (copy.name() != address->name() || copy.db() != address->db()) std::abort();
  if (address->scheme() == redis::Scheme::kUnix) return 0;
  // The name is an address that reads back the same, and holds no password.
  const auto again = redis::Address::Parse(address->name(), redis::UrlFrom::kCommandLine);
  if (!again.ok() || again->name() != address->name() || again->has_password()) std::abort();
  return 0;
}
