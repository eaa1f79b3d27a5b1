// Any bytes as a batch, both as a zstd frame and as what is inside one: refused or read, never
// more.
#include <zstd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "lib/wire/columns.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  (void)muster::wire::DecodeBatch(input);
  std::string frame(ZSTD_compressBound(size), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), data, size, 1));
  const auto decoded = muster::wire::DecodeBatch(frame);
  if (!decoded.ok()) return 0;
  // What was taken can be written again, and says the same.
  const auto again = muster::wire::EncodeBatch(decoded->Records());
  if (!again.ok() || again->span.last != decoded->span.last) std::abort();
  return 0;
}
