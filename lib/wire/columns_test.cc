#include "lib/wire/columns.h"

#include <zstd.h>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "lib/base/random.h"
#include "lib/wire/time.h"

namespace muster::wire {
namespace {

using google::protobuf::util::MessageDifferencer;

v1::Record Result(uint64_t sequence, uint32_t check, int64_t micros,
                  v1::CheckStatus status = v1::CHECK_STATUS_OK) {
  v1::Record record;
  record.set_sequence(sequence);
  record.mutable_result()->set_check_id(check);
  record.mutable_result()->set_status(status);
  *record.mutable_result()->mutable_observed_at() = ToProto(absl::FromUnixMicros(micros));
  *record.mutable_result()->mutable_latency() = ToProto(absl::Microseconds(1234));
  return record;
}

v1::Record GapRecord(uint64_t first, uint64_t last) {
  v1::Record record;
  record.set_sequence(last);
  record.mutable_gap()->set_first(first);
  record.mutable_gap()->set_last(last);
  record.mutable_gap()->set_reason(v1::Gap::REASON_SPOOL_FULL);
  return record;
}

std::string Zstd(const std::string& raw) {
  std::string frame(ZSTD_compressBound(raw.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), raw.data(), raw.size(), 1));
  return frame;
}

v1::RecordBatch Valid() {
  v1::RecordBatch batch;
  batch.set_first_sequence(7);
  batch.set_count(2);
  for (int i = 0; i < 2; ++i) {
    batch.add_check_id(3);
    batch.add_observed_at_us(1'000'000);
    batch.add_latency_us(5);
    batch.mutable_status()->push_back(1);
  }
  return batch;
}

Status Refusal(const v1::RecordBatch& batch) {
  return DecodeBatch(Zstd(batch.SerializeAsString())).status();
}

TEST(Columns, GiveBackWhatWasPutIn) {
  std::vector<v1::Record> records = {
      Result(5, 1, 1'800'000'000'000'000), GapRecord(6, 99),
      Result(100, 2, 1'799'999'999'000'001, v1::CHECK_STATUS_CRITICAL)};
  records[2].mutable_result()->mutable_detail()->set_summary("status 503, expected 200");
  v1::Record taken;
  taken.set_sequence(101);
  taken.mutable_plan_taken()->set_plan_hash("0123");
  records.push_back(taken);
  const auto encoded = EncodeBatch(records);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  EXPECT_EQ(encoded->span.first, 5u);
  EXPECT_EQ(encoded->span.last, 101u);
  const auto decoded = DecodeBatch(encoded->payload);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const std::vector<v1::Record> back = decoded->Records();
  ASSERT_EQ(back.size(), records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_TRUE(MessageDifferencer::Equals(records[i], back[i])) << i;
  }
  EXPECT_EQ(decoded->span.last, 101u);
}

TEST(Columns, RandomLogsComeBackWhole) {
  const uint64_t seed = 7;
  const auto random = SeededRandom(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<v1::Record> records;
    uint64_t next = 1 + random->Below(uint64_t{1'000'000});
    const uint64_t size = 1 + random->Below(uint64_t{60});
    for (uint64_t i = 0; i < size; ++i) {
      if (random->Below(uint64_t{10}) == 0) {
        const uint64_t last = next + random->Below(uint64_t{50});
        records.push_back(GapRecord(next, last));
        next = last + 1;
        continue;
      }
      records.push_back(Result(next++, static_cast<uint32_t>(random->Below(uint64_t{50})),
                               static_cast<int64_t>(random->Below(uint64_t{1} << 50))));
      if (random->Below(uint64_t{3}) == 0) {
        records.back().mutable_result()->mutable_detail()->set_summary("s");
      }
    }
    const auto encoded = EncodeBatch(records);
    ASSERT_TRUE(encoded.ok()) << encoded.status() << " seed " << seed;
    const auto decoded = DecodeBatch(encoded->payload);
    ASSERT_TRUE(decoded.ok()) << decoded.status() << " seed " << seed;
    const std::vector<v1::Record> back = decoded->Records();
    ASSERT_EQ(back.size(), records.size()) << "seed " << seed;
    for (size_t i = 0; i < records.size(); ++i) {
      ASSERT_TRUE(MessageDifferencer::Equals(records[i], back[i])) << "seed " << seed;
    }
  }
}

TEST(Columns, ASteadyResultCostsUnderTenBytes) {
  std::vector<v1::Record> records;
  const auto random = SeededRandom(3);
  for (uint64_t i = 0; i < 128; ++i) {
    records.push_back(Result(
        i + 1, static_cast<uint32_t>(i % 50),
        1'800'000'000'000'000 + static_cast<int64_t>(i * 78'000 + random->Below(uint64_t{3000}))));
    *records.back().mutable_result()->mutable_latency() =
        ToProto(absl::Microseconds(static_cast<int64_t>(300 + random->Below(uint64_t{700}))));
  }
  EXPECT_LT(EncodeBatch(records)->payload.size(), 10u * records.size());
}

TEST(Columns, RefuseWhatDoesNotFollow) {
  EXPECT_EQ(EncodeBatch({Result(1, 1, 1), Result(3, 1, 2)}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EncodeBatch({}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Columns, RefuseABombBeforeInflatingIt) {
  const std::string bomb = Zstd(std::string(100 << 20, '\0'));
  ASSERT_LT(bomb.size(), 20'000u);
  EXPECT_EQ(DecodeBatch(bomb).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Columns, RefuseDamagedBatches) {
  EXPECT_TRUE(Refusal(Valid()).ok());
  v1::RecordBatch batch = Valid();
  batch.add_latency_us(1);
  EXPECT_EQ(Refusal(batch).code(), absl::StatusCode::kInvalidArgument);
  batch = Valid();
  batch.set_count(3);
  EXPECT_FALSE(Refusal(batch).ok());
  batch = Valid();
  batch.mutable_status()->at(1) = 5;
  EXPECT_FALSE(Refusal(batch).ok()) << "no probe returns NO_DATA";
  batch = Valid();
  batch.set_observed_at_us(0, -5);
  EXPECT_FALSE(Refusal(batch).ok());
  batch = Valid();
  batch.add_detail_row(2);
  batch.add_detail();
  EXPECT_FALSE(Refusal(batch).ok());
  batch = Valid();
  *batch.add_others() = GapRecord(20, 30);
  batch.set_count(3);
  EXPECT_FALSE(Refusal(batch).ok()) << "a gap that does not follow";
  EXPECT_FALSE(DecodeBatch("junk").ok());
  EXPECT_FALSE(DecodeBatch("").ok());
}

TEST(Columns, RefuseALongSummaryAndClipOurOwn) {
  v1::RecordBatch batch = Valid();
  batch.add_detail_row(0);
  batch.add_detail()->set_summary(std::string(513, 'x'));
  EXPECT_FALSE(Refusal(batch).ok());
  v1::Record record = Result(1, 1, 1);
  record.mutable_result()->mutable_detail()->set_summary(std::string(9000, 'x'));
  const auto decoded = DecodeBatch(EncodeBatch({record})->payload);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->results[0].detail->summary().size(), kMostSummaryBytes);
}

}  // namespace
}  // namespace muster::wire
