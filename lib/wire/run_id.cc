#include "lib/wire/run_id.h"

#include <fmt/format.h>

#include "lib/base/hash.h"

namespace muster::wire {

std::string RunId(std::string_view job, absl::Time slot) {
  return NameUuid(fmt::format("run/{}@{}", job, absl::ToUnixMicros(slot)));
}

}  // namespace muster::wire
