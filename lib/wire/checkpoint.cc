#include "lib/wire/checkpoint.h"

#include <string_view>

#include "lib/wire/time.h"

namespace muster::wire {
namespace {

constexpr std::string_view kPurpose("muster audit checkpoint v1\0", 27);

void AddNumber(uint64_t number, std::string& text) {
  for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift & 0xff);
}

}  // namespace

std::string CheckpointText(const v1::Checkpoint& checkpoint) {
  std::string text(kPurpose);
  AddNumber(checkpoint.sequence(), text);
  AddNumber(static_cast<uint64_t>(absl::ToUnixMicros(FromProto(checkpoint.at()))), text);
  return text + checkpoint.hash();
}

}  // namespace muster::wire
