#include "control-plane/store/observations.h"

#include <algorithm>

#include "muster/v1/stored.pb.h"

namespace muster::control {

std::string PackObservations(const std::vector<Observation>& observations) {
  v1::StoredObservations stored;
  int64_t before = 0;
  for (const Observation& observation : observations) {
    const int64_t micros = absl::ToUnixMicros(observation.at);
    const int64_t latency = absl::ToInt64Microseconds(observation.latency);
    stored.add_check_id(observation.check_id);
    stored.add_observed_at_us(micros - before);
    stored.add_latency_us(static_cast<uint32_t>(std::clamp<int64_t>(latency, 0, UINT32_MAX)));
    before = micros;
  }
  return stored.SerializeAsString();
}

StatusOr<ObservationsByCheck> UnpackObservations(std::string_view bytes) {
  v1::StoredObservations stored;
  const bool read = stored.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!read || stored.observed_at_us_size() != stored.check_id_size() ||
      stored.latency_us_size() != stored.check_id_size()) {
    return DataLoss("the observations of a log are damaged");
  }
  ObservationsByCheck observations;
  int64_t micros = 0;
  for (int i = 0; i < stored.check_id_size(); ++i) {
    micros += stored.observed_at_us(i);
    observations[stored.check_id(i)] = {stored.check_id(i), absl::FromUnixMicros(micros),
                                        absl::Microseconds(stored.latency_us(i))};
  }
  return observations;
}

}  // namespace muster::control
