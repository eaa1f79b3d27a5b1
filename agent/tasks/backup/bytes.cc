#include "agent/tasks/backup/bytes.h"

#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>

namespace muster::agent::backup {

std::string BytesText(uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto amount = static_cast<double>(bytes);
  size_t unit = 0;
  while (amount >= 1024 && unit + 1 < kUnits.size()) {
    amount /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

Digest::Digest() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_, EVP_sha256(), nullptr);
}

Digest::~Digest() { EVP_MD_CTX_free(context_); }

void Digest::Add(std::string_view bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }

std::string Digest::Take() {
  std::string hash(32, '\0');
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(hash.data()), &size);
  EVP_DigestInit_ex(context_, EVP_sha256(), nullptr);
  return hash;
}

}  // namespace muster::agent::backup
