// SHA-256, HMAC and constant-time comparison, from OpenSSL.
#pragma once

#include <string>
#include <string_view>

#include <absl/time/time.h>

namespace muster {

// 32 bytes.
std::string Sha256(std::string_view bytes);
std::string HmacSha256(std::string_view key, std::string_view bytes);
// Takes the same time wherever the texts differ.
bool SameBytes(std::string_view a, std::string_view b);
// UUID version 5 (RFC 4122) of a name under muster's own namespace: the same name, the same id.
std::string NameUuid(std::string_view name);
// Uniform in [0, bound), in milliseconds, over names: the same name, the same draw. Zero for a
// bound of zero or less.
absl::Duration NameDraw(std::string_view name, absl::Duration bound);
// UUID version 4.
std::string RandomUuid();

}  // namespace muster
