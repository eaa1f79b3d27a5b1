#include "tests/bench/ingest/feed.h"

#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "tests/bench/ingest/must.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kPast = absl::Hours(24 * 365 * 5);
constexpr absl::Duration kDetailEvery = absl::Minutes(5);
constexpr absl::Duration kJitter = absl::Milliseconds(3);  // of the moment a probe begins
constexpr uint64_t kFailureOneIn = 10'000;                 // results
constexpr uint32_t kFailureLasts = 3;                      // results

void AddPhase(v1::ResultDetail& detail, const std::string& name, absl::Duration took) {
  v1::Phase& phase = *detail.add_phases();
  phase.set_name(name);
  *phase.mutable_took() = wire::ToProto(took);
}

void AddMetric(v1::ResultDetail& detail, const std::string& name, double value,
               const std::string& unit) {
  v1::Metric& metric = *detail.add_metrics();
  metric.set_name(name);
  metric.set_value(value);
  metric.set_unit(unit);
}

}  // namespace

Feed::Feed(FeedOptions options, absl::Time now)
    : options_(std::move(options)), now_(now), begin_(now - kPast), random_(SeededRandom(1)) {
  for (size_t i = 0; i < options_.check_ids.size(); ++i) {
    checks_.push_back({absl::Microseconds(300) + random_->Below(absl::Milliseconds(20))});
  }
}

const v1::FromAgent& Feed::Batch(size_t index) {
  absl::MutexLock lock(&mutex_);
  while (batches_.size() <= index) batches_.push_back(MakeBatch());
  return batches_[index];
}

v1::FromAgent Feed::MakeBatch() {
  std::vector<v1::Record> records;
  records.reserve(options_.batch);
  while (records.size() < options_.batch) records.push_back(MakeRecord());
  wire::EncodedBatch encoded = Must(wire::EncodeBatch(records), "encode a batch");
  v1::FromAgent message;
  message.mutable_records()->set_first_sequence(encoded.span.first);
  message.mutable_records()->set_last_sequence(encoded.span.last);
  message.mutable_records()->set_batch(std::move(encoded.payload));
  return message;
}

v1::Record Feed::MakeRecord() {
  const size_t count = checks_.size();
  const auto round = static_cast<int64_t>(made_ / count);
  const auto place = static_cast<int64_t>(made_ % count);
  Check& check = checks_[static_cast<size_t>(place)];
  const absl::Time at = begin_ + round * options_.every +
                        place * options_.every / static_cast<int64_t>(count) +
                        random_->Below(kJitter);
  if (at > now_) Fail("the feed has reached the present: choose fewer or more frequent checks");
  if (check.failures_left == 0 && random_->Below(kFailureOneIn) == 0) {
    check.failures_left = kFailureLasts;
  }
  const bool fails = check.failures_left > 0;
  if (fails) --check.failures_left;
  const absl::Duration latency = check.usual + random_->Below(check.usual / 4);

  v1::Record record;
  record.set_sequence(++made_);
  v1::CheckResult& result = *record.mutable_result();
  result.set_check_id(options_.check_ids[static_cast<size_t>(place)]);
  *result.mutable_observed_at() = wire::ToProto(at);
  *result.mutable_latency() = wire::ToProto(latency);
  result.set_status(fails ? v1::CHECK_STATUS_CRITICAL : v1::CHECK_STATUS_OK);
  if (fails || check.failed || at - check.told_at >= kDetailEvery) {
    Tell(result, latency);
    check.told_at = at;
  }
  check.failed = fails;
  return record;
}

void Feed::Tell(v1::CheckResult& result, absl::Duration latency) {
  const bool fails = result.status() != v1::CHECK_STATUS_OK;
  v1::ResultDetail& detail = *result.mutable_detail();
  detail.set_summary(fails ? "http 503, expected 200 to 299" : "http 200");
  AddPhase(detail, "connect", latency / 8);
  AddPhase(detail, "first_byte", latency / 2);
  AddPhase(detail, "body", latency / 8);
  AddMetric(detail, "http_status", fails ? 503 : 200, "");
  AddMetric(detail, "body_bytes", 512, "B");
  if (fails) {
    detail.set_transcript("> GET http://127.0.0.1:8080/health\n< HTTP/1.1 503 Service Unavailable");
  }
}

}  // namespace muster::bench
