// Any bytes as a spec file: problems or documents, and what was read can be written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/spec/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = muster::spec::ParseYaml({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!parsed.problems.empty()) return 0;
  for (const auto& document : parsed.documents) {
    const auto again = muster::spec::ParseYaml(muster::spec::FormatYaml(document), "again");
    if (!again.problems.empty() || again.documents.size() != 1) std::abort();
  }
  return 0;
}
