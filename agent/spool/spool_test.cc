#include "agent/spool/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <random>

#include "agent/spool/recorder.h"
#include "lib/testing/servers.h"
#include "lib/testing/small_disk.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

using testing::TempFolder;

v1::Record Result(uint32_t check, const std::string& summary = "") {
  v1::Record record;
  record.mutable_result()->set_check_id(check);
  record.mutable_result()->set_status(v1::CHECK_STATUS_OK);
  if (!summary.empty()) record.mutable_result()->mutable_detail()->set_summary(summary);
  return record;
}

std::vector<v1::Record> Results(uint32_t first, uint32_t count, const std::string& summary = "") {
  std::vector<v1::Record> records;
  for (uint32_t i = 0; i < count; ++i) records.push_back(Result(first + i, summary));
  return records;
}

std::unique_ptr<Spool> MustOpen(const std::string& path, const Clock& clock,
                                SpoolOptions options = {}) {
  StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(path, options, clock);
  EXPECT_TRUE(spool.ok()) << spool.status();
  return *std::move(spool);
}

std::vector<v1::Record> ReadAll(Spool& spool, uint64_t from = 1) {
  std::vector<v1::Record> all;
  while (true) {
    const auto records = spool.ReadFrom(from, 100, 1 << 20);
    EXPECT_TRUE(records.ok()) << records.status();
    if (!records.ok() || records->empty()) return all;
    from = records->back().sequence() + 1;
    all.insert(all.end(), records->begin(), records->end());
  }
}

// Every sequence in [1, last] exactly once, as a record or within a gap.
void ExpectWhole(const std::vector<v1::Record>& records, uint64_t last) {
  uint64_t next = 1;
  for (const v1::Record& record : records) {
    ASSERT_EQ(record.has_gap() ? record.gap().first() : record.sequence(), next);
    ASSERT_TRUE(!record.has_gap() || record.gap().last() == record.sequence());
    next = record.sequence() + 1;
  }
  ASSERT_EQ(next, last + 1);
}

TEST(Spool, NumbersRecordsFromOneAndReadsThemBack) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock);
  EXPECT_EQ(spool->bounds().first, 0u);
  EXPECT_EQ(*spool->Append(Results(7, 3, "fine")), 3u);
  EXPECT_EQ(*spool->Append(Results(20, 1)), 4u);
  const auto records = ReadAll(*spool);
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[1].sequence(), 2u);
  EXPECT_EQ(records[1].result().check_id(), 8u);
  EXPECT_EQ(records[1].result().detail().summary(), "fine");
  EXPECT_EQ(spool->bounds().first, 1u);
  EXPECT_EQ(spool->bounds().last, 4u);
}

TEST(Spool, GoesOnWithItsNumbersAndEpochWhenItIsOpenedAgain) {
  TempFolder folder;
  ManualClock clock;
  std::string epoch;
  {
    auto spool = MustOpen(folder.File("log.db"), clock);
    epoch = spool->bounds().epoch;
    ASSERT_TRUE(spool->Append(Results(1, 10)).ok());
  }
  auto spool = MustOpen(folder.File("log.db"), clock);
  EXPECT_EQ(spool->bounds().epoch, epoch);
  EXPECT_EQ(*spool->Append(Results(1, 1)), 11u);
  ExpectWhole(ReadAll(*spool), 11);
}

TEST(Spool, HandsOutBatchesWithinTheirLimits) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock);
  ASSERT_TRUE(spool->Append(Results(1, 50, std::string(200, 'x'))).ok());
  EXPECT_EQ(spool->ReadFrom(1, 7, 1 << 20)->size(), 7u);
  EXPECT_EQ(spool->ReadFrom(1, 50, 1).value().size(), 1u);
  EXPECT_LT(spool->ReadFrom(1, 50, 1000)->size(), 6u);
  EXPECT_TRUE(spool->ReadFrom(51, 50, 1000)->empty());
}

TEST(Spool, KeepsAcknowledgedRecordsAndOffersThemAgainAfterARewind) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock);
  ASSERT_TRUE(spool->Append(Results(1, 20)).ok());
  spool->Acknowledge(20);
  spool->Acknowledge(5);
  EXPECT_EQ(spool->bounds().acknowledged, 20u);
  spool->Rewind(5);
  EXPECT_EQ(spool->bounds().acknowledged, 5u);
  EXPECT_EQ(ReadAll(*spool, 6).size(), 15u);
}

TEST(Spool, DropsAcknowledgedRecordsOnceTheyAreOld) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock, {.keep_acknowledged_for = absl::Hours(1)});
  ASSERT_TRUE(spool->Append(Results(1, 20)).ok());
  spool->Acknowledge(15);
  clock.Advance(absl::Hours(2));
  ASSERT_TRUE(spool->Append(Results(1, 1)).ok());
  EXPECT_EQ(spool->bounds().first, 16u);
  EXPECT_EQ(ReadAll(*spool, 16).size(), 6u);
  // Offered from before what is held: the hole has a name.
  ExpectWhole(ReadAll(*spool), 21);
}

TEST(Spool, NamesWhatItDroppedEvenWhenItHoldsNothing) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock, {.keep_acknowledged_for = absl::Hours(1)});
  ASSERT_TRUE(spool->Append(Results(1, 5)).ok());
  spool->Acknowledge(5);
  clock.Advance(absl::Hours(2));
  ASSERT_TRUE(spool->Append(Results(1, 1)).ok());
  spool->Acknowledge(6);
  clock.Advance(absl::Hours(2));
  spool->Lose(2, v1::Gap::REASON_OVERLOADED, clock.Now(), clock.Now());
  ASSERT_TRUE(spool->Append({}).ok());
  spool->Rewind(2);
  const auto records = ReadAll(*spool, 3);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].gap().first(), 3u);
  EXPECT_EQ(records[0].gap().last(), 6u);
  EXPECT_EQ(records[1].gap().reason(), v1::Gap::REASON_OVERLOADED);
  EXPECT_EQ(records[1].gap().last(), 8u);
}

TEST(Spool, FoldsTheOldestIntoOneGapAtTheBound) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock, {.bound_bytes = 20'000});
  for (uint32_t i = 0; i < 100; ++i) {
    clock.Advance(absl::Seconds(1));
    ASSERT_TRUE(spool->Append(Results(i * 10, 10, std::string(50, 'x'))).ok());
    ASSERT_LE(spool->counts().bytes, 20'000u);
  }
  const auto records = ReadAll(*spool);
  ExpectWhole(records, 1000);
  EXPECT_TRUE(records[0].has_gap());
  EXPECT_EQ(records[0].gap().reason(), v1::Gap::REASON_SPOOL_FULL);
  EXPECT_LT(wire::FromProto(records[0].gap().from()), wire::FromProto(records[0].gap().until()));
  EXPECT_EQ(
      std::count_if(records.begin(), records.end(), [](const auto& r) { return r.has_gap(); }), 1);
  EXPECT_EQ(spool->counts().lost_full, records[0].gap().last());
  EXPECT_TRUE(wire::EncodeBatch(records).ok());
  // A session that has sent a part of the gap goes on within it.
  EXPECT_EQ(spool->ReadFrom(10, 1, 1000)->at(0).gap().first(), 10u);
}

TEST(Spool, LosesAcknowledgedRecordsFirst) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock, {.bound_bytes = 20'000});
  for (uint32_t i = 0; i < 100; ++i) {
    const uint64_t last = *spool->Append(Results(i * 10, 10, std::string(50, 'x')));
    spool->Acknowledge(last - 5);
  }
  EXPECT_EQ(spool->counts().lost_full, 0u);
  EXPECT_FALSE(ReadAll(*spool, 996).at(0).has_gap());
}

// The law of C1: what was delivered and what gaps name is what was appended, exactly once, whatever
// order appends, acknowledgements, losses, rewinds, folds and restarts come in.
TEST(Spool, DeliversOrNamesEveryRecordExactlyOnce) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    TempFolder folder;
    ManualClock clock;
    const SpoolOptions options{.bound_bytes = 6'000, .keep_acknowledged_for = absl::Minutes(5)};
    auto spool = MustOpen(folder.File("log.db"), clock, options);
    std::map<uint64_t, uint32_t> appended;  // check id by sequence; 0 for lost ones
    uint64_t stored = 0;                    // what the other side holds without a hole
    uint64_t next = 1;
    uint64_t pending = 0;
    for (int step = 0; step < 150; ++step) {
      clock.Advance(absl::Seconds(static_cast<int64_t>(random() % 90)));
      switch (random() % 6) {
        case 0:
        case 1: {
          const auto count = static_cast<uint32_t>(1 + random() % 12);
          const auto check = static_cast<uint32_t>(1 + random() % 1000);
          for (; pending > 0; --pending) appended[next++] = 0;
          for (uint32_t i = 0; i < count; ++i) appended[next++] = check + i;
          ASSERT_EQ(*spool->Append(Results(check, count, std::string(random() % 90, 'y'))),
                    next - 1);
          break;
        }
        case 2: {
          const auto records = spool->ReadFrom(stored + 1, 1 + random() % 20, 1 + random() % 2000);
          ASSERT_TRUE(records.ok());
          for (const v1::Record& record : *records) {
            const uint64_t first = record.has_gap() ? record.gap().first() : record.sequence();
            ASSERT_EQ(first, stored + 1);
            ASSERT_TRUE(!record.has_result() || record.result().check_id() == appended.at(first));
            stored = record.sequence();
          }
          break;
        }
        case 3: spool->Acknowledge(stored); break;
        case 4: {
          const uint64_t lost = random() % 3;
          pending += lost;
          spool->Lose(lost, v1::Gap::REASON_OVERLOADED, clock.Now(), clock.Now());
          break;
        }
        default: {
          for (; pending > 0; --pending) appended[next++] = 0;
          ASSERT_TRUE(spool->Append({}).ok());
          spool.reset();
          spool = MustOpen(folder.File("log.db"), clock, options);
          if (random() % 2 == 0) stored -= std::min<uint64_t>(stored, random() % 5);
          spool->Rewind(stored);
        }
      }
    }
    for (const v1::Record& record : ReadAll(*spool, stored + 1)) {
      ASSERT_EQ(record.has_gap() ? record.gap().first() : record.sequence(), stored + 1);
      stored = record.sequence();
    }
    ASSERT_EQ(stored, next - 1);
  }
}

TEST(Spool, BeginsANewEpochWithWhatWasNotAcknowledged) {
  TempFolder folder;
  ManualClock clock;
  auto spool = MustOpen(folder.File("log.db"), clock);
  ASSERT_TRUE(spool->Append(Results(1, 3)).ok());
  spool->Lose(4, v1::Gap::REASON_OVERLOADED, clock.Now(), clock.Now());
  ASSERT_TRUE(spool->Append(Results(8, 3)).ok());
  spool->Acknowledge(5);  // within the gap of 4 to 7
  const std::string epoch = spool->bounds().epoch;
  ASSERT_TRUE(spool->StartNewEpoch().ok());
  EXPECT_NE(spool->bounds().epoch, epoch);
  const auto records = ReadAll(*spool);
  ExpectWhole(records, 5);
  EXPECT_EQ(records[0].gap().last(), 2u);
  EXPECT_EQ(records[1].result().check_id(), 8u);
  EXPECT_EQ(*spool->Append(Results(1, 1)), 6u);
}

TEST(Spool, ReplacesADamagedFileAndSaysSo) {
  TempFolder folder;
  ManualClock clock;
  const std::string path = folder.File("log.db");
  std::string epoch;
  {
    auto spool = MustOpen(path, clock);
    epoch = spool->bounds().epoch;
    ASSERT_TRUE(spool->Append(Results(1, 100, "something")).ok());
  }
  {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << std::string(8192, 'z');
  }
  auto spool = MustOpen(path, clock);
  EXPECT_NE(spool->bounds().epoch, epoch);
  const auto records = ReadAll(*spool);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].gap().reason(), v1::Gap::REASON_LOG_DAMAGED);
  EXPECT_EQ(::access((path + ".damaged").c_str(), F_OK), 0);
  EXPECT_EQ(*spool->Append(Results(1, 1)), 2u);
}

// Appends in a child until it is killed; each number that Append gave is told through the pipe
// first.
TEST(Spool, KeepsEverythingAfterKill) {
  TempFolder folder;
  const std::string path = folder.File("log.db");
  uint64_t told = 0;
  for (int round = 0; round < 3; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(pipe_ends[0]);
      auto spool = Spool::Open(path, {}, SystemClock());
      if (!spool.ok()) ::_exit(1);
      while (true) {
        const auto last = (*spool)->Append(Results(1, 5, "alive"));
        if (!last.ok() || ::write(pipe_ends[1], &*last, sizeof *last) < 0) ::_exit(1);
      }
    }
    ::close(pipe_ends[1]);
    uint64_t last = 0;
    for (int i = 0; i < 20 + round; ++i) {
      ASSERT_EQ(::read(pipe_ends[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
    }
    ::kill(child, SIGKILL);
    while (::read(pipe_ends[0], &last, sizeof last) == static_cast<ssize_t>(sizeof last)) {
    }
    ::close(pipe_ends[0]);
    ::waitpid(child, nullptr, 0);
    EXPECT_GT(last, told);
    told = last;
    auto spool = MustOpen(path, SystemClock());
    EXPECT_GE(spool->bounds().last, told);
    ExpectWhole(ReadAll(*spool), spool->bounds().last);
  }
}

TEST(Spool, NamesWhatAFullDiskDidNotTakeOnceThereIsRoom) {
  TempFolder folder;
  const testing::SmallDisk disk(folder.File("disk"), "3m");
  if (!disk.mounted()) GTEST_SKIP() << "this machine lets nobody mount a file system";
  auto spool = MustOpen(folder.File("disk/log.db"), SystemClock());
  uint64_t appended = 0;
  for (; appended < 50; appended += 5) ASSERT_TRUE(spool->Append(Results(1, 5, "fine")).ok());
  disk.Fill();
  uint64_t failed = 0;
  for (int i = 0; i < 2000 && failed < 50; ++i, appended += 5) {
    if (!spool->Append(Results(1, 5, std::string(400, 'x'))).ok()) failed += 5;
  }
  ASSERT_EQ(failed, 50u);
  EXPECT_TRUE(spool->counts().disk_full);
  EXPECT_EQ(spool->counts().lost_unwritten, 50u);
  disk.MakeRoom();
  EXPECT_EQ(*spool->Append(Results(1, 1, "again")), appended + 1);
  EXPECT_FALSE(spool->counts().disk_full);
  const auto records = ReadAll(*spool);
  ExpectWhole(records, appended + 1);
  uint64_t in_gaps = 0;
  for (const v1::Record& record : records) {
    if (!record.has_gap()) continue;
    EXPECT_EQ(record.gap().reason(), v1::Gap::REASON_DISK_FULL);
    in_gaps += record.gap().last() - record.gap().first() + 1;
  }
  EXPECT_EQ(in_gaps, 50u);
}

TEST(Recorder, GathersSteadyResultsAndWritesUrgentOnesAtOnce) {
  TempFolder folder;
  auto spool = MustOpen(folder.File("log.db"), SystemClock());
  absl::Mutex mutex;
  std::vector<Urgency> written;
  {
    Recorder recorder(*spool, SystemClock(), {.gather = absl::Hours(1)}, [&](Urgency urgency) {
      absl::MutexLock lock(&mutex);
      written.push_back(urgency);
    });
    recorder.Add(Result(1), Urgency::kSteady);
    testing::Pause(absl::Milliseconds(30));
    EXPECT_EQ(spool->position().written, 0u);
    recorder.Add(Result(2), Urgency::kUrgent);
    EXPECT_TRUE(testing::Eventually([&] { return spool->position().written == 2; }));
    recorder.Add(Result(3), Urgency::kSteady);
  }
  EXPECT_EQ(spool->position().written, 3u);
  EXPECT_THAT(written, ::testing::ElementsAre(Urgency::kUrgent, Urgency::kSteady));
}

TEST(Recorder, SaysWhereARecordStandsOnceItIsWritten) {
  TempFolder folder;
  auto spool = MustOpen(folder.File("log.db"), SystemClock());
  Recorder recorder(*spool, SystemClock(), {.gather = absl::Hours(1)}, [](Urgency) {});
  recorder.Add(Result(1), Urgency::kSteady);
  recorder.Add(Result(2), Urgency::kSoon);
  EXPECT_EQ(*recorder.Write(Result(3)), 3u) << "behind those that waited";
  EXPECT_EQ(*recorder.Write(Result(4)), 4u);
  EXPECT_EQ(spool->ReadFrom(3, 1, 1)->at(0).result().check_id(), 3u);
  recorder.Stop();
  EXPECT_FALSE(recorder.Write(Result(5)).ok());
}

}  // namespace
}  // namespace muster::agent
