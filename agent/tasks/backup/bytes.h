// Amounts of bytes for people, and SHA-256 of what comes in pieces.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace muster::agent::backup {

// "512 B", "1.5 KiB", "3.2 GiB".
std::string BytesText(uint64_t bytes);

class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;
  void Add(std::string_view bytes);
  // The 32 bytes; then it begins anew.
  std::string Take();

 private:
  evp_md_ctx_st* context_;
};

}  // namespace muster::agent::backup
