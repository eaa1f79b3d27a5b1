// Any bytes as a row of the agent's log: read as a record that lies within its numbers, or refused.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/spool/spool.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const uint64_t sequence : {uint64_t{1}, uint64_t{40}, uint64_t{1} << 40}) {
    const auto record = muster::agent::DecodeEntry(sequence, body, sequence / 2);
    if (!record.ok()) continue;
    if (record->sequence() != sequence) std::abort();
    if (record->has_gap() && (record->gap().last() != sequence || record->gap().first() == 0 ||
                              record->gap().first() > sequence)) {
      std::abort();
    }
    // What was read can be written, and says the same.
    const auto again = muster::agent::DecodeEntry(sequence, muster::agent::EncodeEntry(*record), 0);
    if (!again.ok() || again->sequence() != sequence) std::abort();
  }
  return 0;
}
