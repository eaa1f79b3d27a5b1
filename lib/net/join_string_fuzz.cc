// Any bytes as a join string and as a context file: refused or read; what was read writes itself
// back the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/net/context.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  (void)muster::net::ParseContext(input, "fuzz");
  const auto join = muster::net::ParseJoinString(input);
  if (!join.ok()) return 0;
  const auto again = muster::net::ParseJoinString(muster::net::FormatJoinString(*join));
  if (!again.ok() || again->pin != join->pin || again->token != join->token) std::abort();
  return 0;
}
