#include "control-plane/rpc/history_reader.h"

#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

// What is stored was checked when it came, so only damage can be over this.
const wire::BatchLimits kStoredLimits{.entries = 1 << 16, .raw_bytes = 16 << 20};

}  // namespace

StatusOr<bool> HistoryReader::Feed(const Segment& segment) {
  const StatusOr<wire::DecodedBatch> batch = wire::DecodeBatch(segment.payload, kStoredLimits);
  if (!batch.ok()) {
    return DataLoss("records {} to {} of {} are damaged in the store: {}", segment.first_sequence,
                    segment.last_sequence, segment.agent, Message(batch.status()));
  }
  for (const v1::Record& record : batch->records) {
    MUSTER_ASSIGN_OR_RETURN(const bool more, FeedRecord(segment, record));
    if (!more) return false;
  }
  return true;
}

StatusOr<bool> HistoryReader::FeedRecord(const Segment& segment, const v1::Record& record) {
  v1::HistoryEntry entry;
  entry.set_seq(record.sequence());
  entry.set_log_epoch(segment.log_epoch);
  if (record.has_gap()) {
    if (wire::FromProto(record.gap().until()) < query_.since ||
        wire::FromProto(record.gap().from()) > query_.until) {
      return true;
    }
    *entry.mutable_gap() = record.gap();
    entry.set_state(v1::CHECK_STATUS_NO_DATA);
    *entry.mutable_observed_at() = record.gap().from();
    return Give(entry);
  }
  if (!record.has_result() || record.result().check_id() != query_.check_id) return true;
  const v1::CheckResult& result = record.result();
  if (result.has_detail()) {
    summary_ = result.detail().summary();
    summary_status_ = result.status();
  }
  const absl::Time observed_at = wire::FromProto(result.observed_at());
  if (observed_at < query_.since || observed_at > query_.until) return true;
  entry.set_state(result.status());
  *entry.mutable_observed_at() = result.observed_at();
  *entry.mutable_latency() = result.latency();
  if (result.has_detail()) *entry.mutable_detail() = result.detail();
  if (result.status() == summary_status_) entry.set_summary(summary_);
  return Give(entry);
}

bool HistoryReader::Give(const v1::HistoryEntry& entry) {
  if (!take_(entry)) return false;
  ++given_;
  return query_.limit == 0 || given_ < query_.limit;
}

}  // namespace muster::control
