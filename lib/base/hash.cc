#include "lib/base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "lib/base/random.h"
#include "lib/base/text.h"

namespace muster {
namespace {

// The namespace of muster's name-based ids. Fixed for ever.
constexpr unsigned char kNamespace[16] = {0x6d, 0x75, 0x73, 0x74, 0x65, 0x72, 0x4f, 0x1d,
                                          0x9a, 0x3b, 0x5c, 0x7e, 0x11, 0x52, 0x88, 0xd0};

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string FormatUuid(std::string bytes, unsigned version) {
  bytes.resize(16);
  bytes[6] = static_cast<char>((static_cast<unsigned char>(bytes[6]) & 0x0F) | (version << 4));
  bytes[8] = static_cast<char>((static_cast<unsigned char>(bytes[8]) & 0x3F) | 0x80);
  const std::string hex = HexEncode(bytes);
  return hex.substr(0, 8) + '-' + hex.substr(8, 4) + '-' + hex.substr(12, 4) + '-' +
         hex.substr(16, 4) + '-' + hex.substr(20);
}

}  // namespace

std::string Sha256(std::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(Bytes(bytes), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

std::string HmacSha256(std::string_view key, std::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  unsigned length = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), Bytes(bytes), bytes.size(),
       reinterpret_cast<unsigned char*>(digest.data()), &length);
  return digest;
}

bool SameBytes(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string NameUuid(std::string_view name) {
  std::string input(reinterpret_cast<const char*>(kNamespace), sizeof kNamespace);
  input += name;
  std::string digest(SHA_DIGEST_LENGTH, '\0');
  SHA1(Bytes(input), input.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return FormatUuid(std::move(digest), 5);
}

absl::Duration NameDraw(std::string_view name, absl::Duration bound) {
  const int64_t span = absl::ToInt64Milliseconds(bound);
  if (span <= 0) return absl::ZeroDuration();
  uint64_t draw = 0;
  for (const char byte : Sha256(name).substr(0, 8)) draw = draw << 8 | static_cast<uint8_t>(byte);
  const auto scaled = static_cast<unsigned __int128>(draw) * static_cast<uint64_t>(span) >> 64;
  return absl::Milliseconds(static_cast<int64_t>(scaled));
}

std::string RandomUuid() { return FormatUuid(RandomBytes(16), 4); }

}  // namespace muster
