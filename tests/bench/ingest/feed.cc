#include "tests/bench/ingest/feed.h"

#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "tests/bench/lib/http_result.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kPast = absl::Hours(24 * 365 * 5);
constexpr absl::Duration kDetailEvery = absl::Minutes(5);
constexpr absl::Duration kJitter = absl::Milliseconds(3);  // of the moment a probe begins
constexpr uint64_t kFailureOneIn = 10'000;                 // results
constexpr uint32_t kFailureLasts = 3;                      // results

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
    TellHttp(latency, result);
    check.told_at = at;
  }
  check.failed = fails;
  return record;
}

}  // namespace muster::bench
