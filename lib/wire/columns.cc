#include "lib/wire/columns.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::wire {
namespace {

constexpr int kZstdLevel = 3;
constexpr size_t kMostReasonableEntries = 1 << 16;
constexpr int64_t kLatestMicros = 32'503'680'000'000'000;  // the year 3000

uint64_t FirstOf(const v1::Record& record) {
  return record.has_gap() ? record.gap().first() : record.sequence();
}

int64_t Micros(const google::protobuf::Timestamp& time) {
  return absl::ToUnixMicros(FromProto(time));
}

uint32_t LatencyMicros(const v1::CheckResult& result) {
  const int64_t micros = absl::ToInt64Microseconds(FromProto(result.latency()));
  return static_cast<uint32_t>(std::clamp<int64_t>(micros, 0, UINT32_MAX));
}

void AppendResult(const v1::CheckResult& result, int64_t& last_micros, v1::RecordBatch& batch) {
  const int64_t micros = Micros(result.observed_at());
  if (result.has_detail()) {
    batch.add_detail_row(static_cast<uint32_t>(batch.check_id_size()));
    *batch.add_detail() = result.detail();
    Clip(*batch.mutable_detail(batch.detail_size() - 1));
  }
  batch.add_check_id(result.check_id());
  batch.add_observed_at_us(micros - last_micros);
  batch.add_latency_us(LatencyMicros(result));
  batch.mutable_status()->push_back(static_cast<char>(result.status()));
  last_micros = micros;
}

StatusOr<std::string> Compress(const std::string& raw) {
  std::string frame(ZSTD_compressBound(raw.size()), '\0');
  const size_t size = ZSTD_compress(frame.data(), frame.size(), raw.data(), raw.size(), kZstdLevel);
  if (ZSTD_isError(size)) return Internal("zstd: {}", ZSTD_getErrorName(size));
  frame.resize(size);
  return frame;
}

StatusOr<std::string> Decompress(std::string_view frame, size_t limit) {
  const unsigned long long declared = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR || declared == ZSTD_CONTENTSIZE_UNKNOWN) {
    return InvalidArgument("batch is not a zstd frame that declares its size");
  }
  if (declared > limit) {
    return ResourceExhausted("batch of {} bytes before compression; the limit is {}", declared,
                             limit);
  }
  std::string raw(static_cast<size_t>(declared), '\0');
  const size_t size = ZSTD_decompress(raw.data(), raw.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) || size != raw.size())
    return InvalidArgument("batch's zstd frame is damaged");
  return raw;
}

Status CheckDetail(const v1::ResultDetail& detail) {
  if (detail.summary().size() > kMostSummaryBytes) return InvalidArgument("a summary is too long");
  if (detail.transcript().size() > kMostTranscriptBytes) {
    return InvalidArgument("a transcript is too long");
  }
  if (static_cast<size_t>(detail.metrics_size()) > kMostMetrics ||
      static_cast<size_t>(detail.phases_size()) > kMostPhases) {
    return InvalidArgument("a result has too many metrics or phases");
  }
  for (const v1::Metric& metric : detail.metrics()) {
    if (metric.name().size() > kMostNameBytes || metric.unit().size() > kMostNameBytes) {
      return InvalidArgument("a metric's name or unit is too long");
    }
  }
  for (const v1::Phase& phase : detail.phases()) {
    if (phase.name().size() > kMostNameBytes) return InvalidArgument("a phase's name is too long");
  }
  return OkStatus();
}

Status CheckShape(const v1::RecordBatch& batch, const BatchLimits& limits) {
  const size_t rows = static_cast<size_t>(batch.check_id_size());
  if (batch.count() == 0 || batch.count() > limits.entries ||
      batch.count() > kMostReasonableEntries) {
    return ResourceExhausted("batch of {} entries; 1 to {} are allowed", batch.count(),
                             limits.entries);
  }
  if (static_cast<size_t>(batch.observed_at_us_size()) != rows || batch.status().size() != rows ||
      static_cast<size_t>(batch.latency_us_size()) != rows) {
    return InvalidArgument("batch's columns differ in length");
  }
  if (batch.detail_row_size() != batch.detail_size()) {
    return InvalidArgument("batch's details and their rows differ in number");
  }
  if (rows + static_cast<size_t>(batch.others_size()) != batch.count()) {
    return InvalidArgument("batch says {} entries and holds {}", batch.count(),
                           rows + static_cast<size_t>(batch.others_size()));
  }
  if (batch.first_sequence() == 0 || batch.first_sequence() > UINT64_MAX / 4) {
    return InvalidArgument("batch begins at a sequence that cannot be");
  }
  return OkStatus();
}

// Gives rows and other entries their sequences back.
class Unpacker {
 public:
  explicit Unpacker(v1::RecordBatch& batch) : batch_(batch), next_(batch.first_sequence()) {}

  StatusOr<DecodedBatch> Unpack() {
    decoded_.span.first = batch_.first_sequence();
    decoded_.results.reserve(static_cast<size_t>(batch_.check_id_size()));
    decoded_.others.reserve(static_cast<size_t>(batch_.others_size()));
    while (row_ < batch_.check_id_size() || other_ < batch_.others_size()) {
      const bool other = other_ < batch_.others_size() && FirstOf(batch_.others(other_)) == next_;
      if (!other && row_ >= batch_.check_id_size()) {
        return InvalidArgument("an entry of the batch is out of order");
      }
      MUSTER_RETURN_IF_ERROR(other ? TakeOther() : TakeRow());
    }
    if (detail_ != batch_.detail_size()) {
      return InvalidArgument("a detail of the batch belongs to no result");
    }
    decoded_.span.last = next_ - 1;
    // The details stay where they are; only who owns them changes.
    decoded_.details = std::move(*batch_.mutable_detail());
    return std::move(decoded_);
  }

 private:
  Status TakeOther() {
    v1::Record record = std::move(*batch_.mutable_others(other_++));
    if (record.has_gap()) {
      const v1::Gap& gap = record.gap();
      if (gap.last() < gap.first() || gap.last() != record.sequence() ||
          gap.last() > UINT64_MAX / 2) {
        return InvalidArgument("a gap of the batch has a range that cannot be");
      }
      next_ = gap.last() + 1;
    } else {
      if (!record.has_plan_taken() || record.plan_taken().plan_hash().size() > 64) {
        return InvalidArgument("an entry of the batch is of an unknown kind");
      }
      ++next_;
    }
    decoded_.others.push_back(std::move(record));
    return OkStatus();
  }

  Status TakeRow() {
    const auto status = static_cast<unsigned char>(batch_.status()[static_cast<size_t>(row_)]);
    if (status < v1::CHECK_STATUS_OK || status > v1::CHECK_STATUS_UNKNOWN) {
      return InvalidArgument("a result has status {}, which no probe returns", status);
    }
    // Wrapping on purpose: what a hostile batch adds up to is checked below.
    micros_ = static_cast<int64_t>(static_cast<uint64_t>(micros_) +
                                   static_cast<uint64_t>(batch_.observed_at_us(row_)));
    if (micros_ < 0 || micros_ > kLatestMicros) {
      return InvalidArgument("a result was observed at a time that cannot be");
    }
    ResultRow& result = decoded_.results.emplace_back();
    result.sequence = next_++;
    result.check_id = batch_.check_id(row_);
    result.observed_at = absl::FromUnixMicros(micros_);
    result.latency = absl::Microseconds(batch_.latency_us(row_));
    result.status = static_cast<v1::CheckStatus>(status);
    MUSTER_RETURN_IF_ERROR(TakeDetail(result));
    ++row_;
    return OkStatus();
  }

  Status TakeDetail(ResultRow& result) {
    if (detail_ == batch_.detail_size()) return OkStatus();
    const uint32_t row = batch_.detail_row(detail_);
    if (row < static_cast<uint32_t>(row_) || row >= static_cast<uint32_t>(batch_.check_id_size())) {
      return InvalidArgument("a detail of the batch belongs to no result");
    }
    if (row != static_cast<uint32_t>(row_)) return OkStatus();
    result.detail = &batch_.detail(detail_++);
    return CheckDetail(*result.detail);
  }

  v1::RecordBatch& batch_;
  DecodedBatch decoded_;
  uint64_t next_;
  int row_ = 0;
  int detail_ = 0;
  int other_ = 0;
  int64_t micros_ = 0;
};

v1::Record ToRecord(const ResultRow& row) {
  v1::Record record;
  record.set_sequence(row.sequence);
  v1::CheckResult& result = *record.mutable_result();
  result.set_check_id(row.check_id);
  *result.mutable_observed_at() = ToProto(row.observed_at);
  *result.mutable_latency() = ToProto(row.latency);
  result.set_status(row.status);
  if (row.detail != nullptr) *result.mutable_detail() = *row.detail;
  return record;
}

}  // namespace

void Clip(v1::ResultDetail& detail) {
  const auto cut = [](std::string* text, size_t bytes) {
    if (text->size() > bytes) *text = std::string(Truncate(*text, bytes));
  };
  cut(detail.mutable_summary(), kMostSummaryBytes);
  cut(detail.mutable_transcript(), kMostTranscriptBytes);
  while (static_cast<size_t>(detail.metrics_size()) > kMostMetrics)
    detail.mutable_metrics()->RemoveLast();
  while (static_cast<size_t>(detail.phases_size()) > kMostPhases)
    detail.mutable_phases()->RemoveLast();
  for (v1::Metric& metric : *detail.mutable_metrics()) {
    cut(metric.mutable_name(), kMostNameBytes);
    cut(metric.mutable_unit(), kMostNameBytes);
  }
  for (v1::Phase& phase : *detail.mutable_phases()) cut(phase.mutable_name(), kMostNameBytes);
}

StatusOr<EncodedBatch> EncodeBatch(const std::vector<v1::Record>& records) {
  if (records.empty()) return InvalidArgument("a batch needs at least one record");
  v1::RecordBatch batch;
  uint64_t next = FirstOf(records.front());
  batch.set_first_sequence(next);
  batch.set_count(static_cast<uint32_t>(records.size()));
  int64_t last_micros = 0;
  for (const v1::Record& record : records) {
    if (FirstOf(record) != next) {
      return InvalidArgument("record {} does not follow {}", FirstOf(record), next - 1);
    }
    next = record.sequence() + 1;
    if (record.has_result()) {
      AppendResult(record.result(), last_micros, batch);
    } else {
      *batch.add_others() = record;
    }
  }
  MUSTER_ASSIGN_OR_RETURN(std::string payload, Compress(batch.SerializeAsString()));
  return EncodedBatch{{batch.first_sequence(), next - 1}, std::move(payload)};
}

std::vector<v1::Record> DecodedBatch::Records() const {
  std::vector<v1::Record> records;
  records.reserve(results.size() + others.size());
  auto other = others.begin();
  for (const ResultRow& result : results) {
    for (; other != others.end() && other->sequence() < result.sequence; ++other) {
      records.push_back(*other);
    }
    records.push_back(ToRecord(result));
  }
  records.insert(records.end(), other, others.end());
  return records;
}

StatusOr<DecodedBatch> DecodeBatch(std::string_view payload, const BatchLimits& limits) {
  MUSTER_ASSIGN_OR_RETURN(const std::string raw, Decompress(payload, limits.raw_bytes));
  v1::RecordBatch batch;
  if (!batch.ParseFromString(raw)) return InvalidArgument("batch is not a RecordBatch message");
  MUSTER_RETURN_IF_ERROR(CheckShape(batch, limits));
  return Unpacker(batch).Unpack();
}

}  // namespace muster::wire
