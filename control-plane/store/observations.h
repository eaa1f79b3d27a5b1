// When each check of an agent was last observed, packed into one value that its log's row carries
// (stored.proto, StoredObservations). It is written with every batch, so it is never older than the
// log, and a quiet check needs no row of its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::control {

struct Observation {
  uint32_t check_id = 0;
  absl::Time at;
  absl::Duration latency;
};

std::string PackObservations(const std::vector<Observation>& observations);

using ObservationsByCheck = absl::flat_hash_map<uint32_t, Observation>;
// DataLoss if it is not what PackObservations makes. Empty for empty bytes.
StatusOr<ObservationsByCheck> UnpackObservations(std::string_view bytes);

}  // namespace muster::control
