// Records to the compressed columnar batch in which they travel and are stored, and back. Pure.
//
// A batch is trusted by nobody: Decode checks every length, bound and order, and never inflates to
// more than its limit.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "muster/v1/record.pb.h"

namespace muster::wire {

struct BatchLimits {
  size_t entries = 4096;
  size_t raw_bytes = 1 << 20;  // of the RecordBatch before compression
};

// Bounds of one entry; Clip cuts a detail down to them, Decode refuses what is over.
inline constexpr size_t kMostSummaryBytes = 512;
inline constexpr size_t kMostTranscriptBytes = 4096;
inline constexpr size_t kMostMetrics = 64;
inline constexpr size_t kMostPhases = 16;
inline constexpr size_t kMostNameBytes = 128;
void Clip(v1::ResultDetail& detail);
// Of a run's event, the same: texts are cut, and figures moved into their range.
inline constexpr size_t kMostRunText = 512;
inline constexpr size_t kMostOutputBytes = 4096;
inline constexpr size_t kMostUnitBytes = 16;
inline constexpr size_t kMostJobBytes = 253;
inline constexpr size_t kMostUserBytes = 64;
inline constexpr size_t kMostTables = 512;
inline constexpr size_t kMostForgotten = 1000;
void Clip(v1::RunEvent& event);
// Lower-case hex digits in five groups: what may stand as run_id.
bool IsUuid(std::string_view text);

// The sequences of consecutive entries, first to last: a gap entry covers [first, last].
struct Span {
  uint64_t first = 0;
  uint64_t last = 0;
};

struct EncodedBatch {
  Span span;
  std::string payload;  // one zstd frame
};

// InvalidArgument if the entries are empty or not consecutive.
StatusOr<EncodedBatch> EncodeBatch(const std::vector<v1::Record>& records);

// One result of a batch.
struct ResultRow {
  uint64_t sequence = 0;
  uint32_t check_id = 0;
  v1::CheckStatus status = v1::CHECK_STATUS_UNSPECIFIED;
  absl::Time observed_at;  // by the agent's clock, to the microsecond
  absl::Duration latency;
  const v1::ResultDetail* detail = nullptr;  // in the batch; null where there is none
};

// Stays in columns: nothing is allocated for a result without a detail.
struct DecodedBatch {
  DecodedBatch() = default;
  DecodedBatch(DecodedBatch&&) = default;
  DecodedBatch& operator=(DecodedBatch&&) = default;

  // Results and others as they stood in the log, in order.
  std::vector<v1::Record> Records() const;

  Span span;
  std::vector<ResultRow> results;  // by sequence
  std::vector<v1::Record> others;  // gaps, plans taken and runs' events, by sequence
  google::protobuf::RepeatedPtrField<v1::ResultDetail> details;  // that results point to
};
// InvalidArgument says what is wrong with the batch; ResourceExhausted that it is over a limit.
StatusOr<DecodedBatch> DecodeBatch(std::string_view payload, const BatchLimits& limits = {});

}  // namespace muster::wire
