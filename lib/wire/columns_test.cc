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

v1::RunEvent Event() {
  v1::RunEvent event;
  event.set_run_id("0a1b2c3d-4e5f-5678-9abc-def012345678");
  event.set_fence(3);
  *event.mutable_at() = ToProto(absl::FromUnixSeconds(1'800'000'000));
  return event;
}
v1::RunEvent Started() {
  v1::RunEvent event = Event();
  event.mutable_started()->set_what("/opt/jobs/report --all");
  event.mutable_started()->mutable_reported()->set_job("nightly");
  event.mutable_started()->mutable_reported()->set_user("root");
  return event;
}
v1::RunEvent Progress() {
  v1::RunEvent event = Event();
  event.mutable_progress()->set_done(7);
  event.mutable_progress()->set_unit("rows");
  return event;
}
v1::RunEvent Output() {
  v1::RunEvent event = Event();
  event.mutable_output()->set_stream(v1::RunOutput::STREAM_STDERR);
  event.mutable_output()->set_text("one\n");
  event.mutable_output()->set_first_line(1);
  return event;
}
v1::RunEvent Ended() {
  v1::RunEvent event = Event();
  event.mutable_ended()->set_outcome(v1::RUN_OUTCOME_UNKNOWN);
  event.mutable_ended()->set_exit_code(-1);
  *event.mutable_ended()->mutable_took() = ToProto(absl::Seconds(5));
  event.mutable_ended()->add_metrics()->set_name("rows");
  return event;
}

v1::RunEvent Artifact() {
  v1::RunEvent event = Event();
  v1::Backup& backup = *event.mutable_artifact()->mutable_backup();
  backup.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
  backup.set_repository_id(std::string(64, 'a'));
  backup.set_snapshot_id(std::string(64, '0'));
  backup.set_proof(v1::BACKUP_PROOF_TAKEN);
  backup.set_manifest_hash(std::string(32, '\xff'));
  backup.add_tables()->set_table("public.orders");
  return event;
}

v1::Record RecordOf(uint64_t sequence, const v1::RunEvent& event) {
  v1::Record record;
  record.set_sequence(sequence);
  *record.mutable_run_event() = event;
  return record;
}

// As a batch that nobody clipped.
Status RefusalOf(const v1::RunEvent& event) {
  v1::RecordBatch batch;
  batch.set_first_sequence(1);
  batch.set_count(1);
  *batch.add_others() = RecordOf(1, event);
  return Refusal(batch);
}

TEST(Columns, GiveBackWhatHappenedToARunAmongResults) {
  const std::vector<v1::Record> records = {RecordOf(1, Started()),  Result(2, 1, 1'000'000),
                                           RecordOf(3, Progress()), RecordOf(4, Output()),
                                           Result(5, 1, 2'000'000), RecordOf(6, Artifact()),
                                           RecordOf(7, Ended())};
  const auto encoded = EncodeBatch(records);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const auto decoded = DecodeBatch(encoded->payload);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const std::vector<v1::Record> back = decoded->Records();
  ASSERT_EQ(back.size(), records.size());
  for (size_t i = 0; i < records.size(); ++i)
    EXPECT_TRUE(MessageDifferencer::Equals(records[i], back[i])) << i;
}

using Change = void (*)(v1::RunEvent&);
void ExpectRefused(const v1::RunEvent& good, std::initializer_list<Change> changes) {
  ASSERT_TRUE(RefusalOf(good).ok()) << RefusalOf(good);
  int number = 0;
  for (const Change change : changes) {
    v1::RunEvent bad = good;
    change(bad);
    EXPECT_EQ(RefusalOf(bad).code(), absl::StatusCode::kInvalidArgument) << number;
    ++number;
  }
}

TEST(Columns, RefuseARunsEventBeyondItsBounds) {
  ExpectRefused(Started(),
                {
                    [](v1::RunEvent& e) { e.set_run_id("../../etc"); },
                    [](v1::RunEvent& e) { e.set_run_id("0A1B2C3D-4E5F-5678-9ABC-DEF012345678"); },
                    [](v1::RunEvent& e) { e.set_fence(0); },
                    [](v1::RunEvent& e) { e.set_fence(UINT64_MAX); },
                    [](v1::RunEvent& e) { e.mutable_at()->set_seconds(-1); },
                    [](v1::RunEvent& e) { e.mutable_at()->set_seconds(INT64_MAX); },
                    [](v1::RunEvent& e) { e.mutable_at()->set_nanos(-1); },
                    [](v1::RunEvent& e) { e.clear_started(); },
                    [](v1::RunEvent& e) { e.mutable_started()->set_what(std::string(513, 'x')); },
                    [](v1::RunEvent& e) { e.mutable_started()->set_what(std::string(1, '\0')); },
                    [](v1::RunEvent& e) {
                      e.mutable_started()->mutable_reported()->set_job(std::string(254, 'x'));
                    },
                    [](v1::RunEvent& e) {
                      e.mutable_started()->mutable_reported()->set_user(std::string(65, 'x'));
                    },
                    [](v1::RunEvent& e) {
                      e.mutable_started()->mutable_reported()->set_user(std::string(1, '\0'));
                    },
                });
  ExpectRefused(Progress(),
                {
                    [](v1::RunEvent& e) { e.mutable_progress()->set_unit(std::string(17, 'x')); },
                    [](v1::RunEvent& e) { e.mutable_progress()->set_text(std::string(513, 'x')); },
                    [](v1::RunEvent& e) { e.mutable_progress()->set_total(UINT64_MAX); },
                });
  ExpectRefused(Output(),
                {
                    [](v1::RunEvent& e) { e.mutable_output()->clear_text(); },
                    [](v1::RunEvent& e) { e.mutable_output()->set_text(std::string(4097, 'x')); },
                    [](v1::RunEvent& e) { e.mutable_output()->set_text(std::string(3, '\0')); },
                    [](v1::RunEvent& e) { e.mutable_output()->clear_stream(); },
                    [](v1::RunEvent& e) { e.mutable_output()->set_first_line(0); },
                    [](v1::RunEvent& e) { e.mutable_output()->set_first_line(UINT64_MAX); },
                    [](v1::RunEvent& e) {
                      e.mutable_output()->set_stream(static_cast<v1::RunOutput::Stream>(4));
                    },
                });
  ExpectRefused(
      Ended(),
      {
          [](v1::RunEvent& e) { e.mutable_ended()->clear_outcome(); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_outcome(static_cast<v1::RunOutcome>(7)); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_reason(std::string(513, 'x')); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_exit_code(-2); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_exit_code(256); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_signal(65); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_signal(-1); },
          [](v1::RunEvent& e) { e.mutable_ended()->mutable_took()->set_seconds(-1); },
          [](v1::RunEvent& e) { e.mutable_ended()->mutable_took()->set_nanos(-1); },
          [](v1::RunEvent& e) { e.mutable_ended()->set_dropped_lines(UINT64_MAX); },
          [](v1::RunEvent& e) {
            e.mutable_ended()->mutable_metrics(0)->set_name(std::string(129, 'x'));
          },
          [](v1::RunEvent& e) {
            while (e.ended().metrics_size() < 65) e.mutable_ended()->add_metrics();
          },
      });
}

v1::Backup& BackupIn(v1::RunEvent& event) { return *event.mutable_artifact()->mutable_backup(); }

TEST(Columns, RefuseAnArtifactBeyondItsBounds) {
  ExpectRefused(
      Artifact(),
      {
          [](v1::RunEvent& e) { e.mutable_artifact()->Clear(); },
          [](v1::RunEvent& e) { BackupIn(e).set_snapshot_id("latest"); },
          [](v1::RunEvent& e) { BackupIn(e).clear_repository_id(); },
          [](v1::RunEvent& e) { BackupIn(e).clear_proof(); },
          [](v1::RunEvent& e) { BackupIn(e).set_engine(static_cast<v1::BackupEngine>(9)); },
          [](v1::RunEvent& e) { BackupIn(e).set_manifest_hash("short"); },
          [](v1::RunEvent& e) { BackupIn(e).set_problem(std::string(513, 'x')); },
          [](v1::RunEvent& e) { BackupIn(e).set_row_count(UINT64_MAX); },
          [](v1::RunEvent& e) { BackupIn(e).mutable_took()->set_seconds(-1); },
          [](v1::RunEvent& e) { BackupIn(e).mutable_taken_at()->set_seconds(-1); },
          [](v1::RunEvent& e) { BackupIn(e).mutable_tables(0)->set_table(std::string(129, 'x')); },
          [](v1::RunEvent& e) {
            while (BackupIn(e).tables_size() < 513) BackupIn(e).add_tables();
          },
          [](v1::RunEvent& e) { e.mutable_artifact()->mutable_restore()->set_bytes(1); },
          [](v1::RunEvent& e) {
            e.mutable_artifact()->mutable_forgotten()->add_snapshot_ids("one");
          },
      });
}

TEST(Columns, ClipOurOwnRunEventsToTheirBounds) {
  v1::RunEvent artifact = Artifact();
  BackupIn(artifact).set_problem(std::string(900, 'x'));
  BackupIn(artifact).mutable_tables(0)->set_table(std::string(900, 'x'));
  while (BackupIn(artifact).tables_size() < 600) BackupIn(artifact).add_tables();
  BackupIn(artifact).mutable_took()->set_seconds(-4);
  v1::RunEvent started = Started();
  started.mutable_started()->set_what(std::string(900, 'x'));
  v1::RunEvent progress = Progress();
  progress.mutable_progress()->set_unit(std::string(90, 'x'));
  progress.mutable_progress()->set_done(UINT64_MAX);
  v1::RunEvent output = Output();
  output.mutable_output()->set_text(std::string(4000, 'x') + std::string(400, '\0'));
  v1::RunEvent ended = Ended();
  ended.mutable_ended()->set_reason(std::string(500, 'x') + std::string(40, '\0'));
  ended.mutable_ended()->set_exit_code(70'000);
  ended.mutable_ended()->set_signal(-3);
  ended.mutable_ended()->mutable_took()->set_seconds(-9);
  ended.mutable_ended()->mutable_metrics(0)->set_name(std::string(7, '\0'));
  for (int i = 0; i < 99; ++i) ended.mutable_ended()->add_metrics();
  uint64_t sequence = 0;
  for (const v1::RunEvent& event : {started, progress, output, ended, artifact}) {
    const auto decoded = DecodeBatch(EncodeBatch({RecordOf(++sequence, event)})->payload);
    EXPECT_TRUE(decoded.ok()) << decoded.status();
  }
}

}  // namespace
}  // namespace muster::wire
