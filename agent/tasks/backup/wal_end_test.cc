#include "agent/tasks/backup/wal_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::agent::backup {
namespace {

// Of PostgreSQL 15's pg_waldump.
constexpr char kLines[] =
    "rmgr: Heap        len (rec/tot):     54/   150, tx:        735, lsn: 0/03000028, prev "
    "0/02000100, desc: INSERT off 1 flags 0x08, blkref #0: rel 1663/5/16384 blk 0\n"
    "rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/030000C0, prev "
    "0/03000028, desc: COMMIT 2026-11-29 13:42:27.500000 UTC\n"
    "rmgr: Transaction len (rec/tot):     34/    34, tx:        736, lsn: 0/030000E8, prev "
    "0/030000C0, desc: ABORT 2026-11-29 13:42:27.250000 UTC; rels: base/5/16400\n"
    "rmgr: Transaction len (rec/tot):     34/    34, tx:        737, lsn: 0/03000100, prev "
    "0/030000E8, desc: PREPARE gid two: 2026-11-29 13:50:00.000000 UTC\n"
    "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000110, prev "
    "0/03000100, desc: SWITCH\n"
    "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/0300";

absl::Time At(int second) {
  return absl::FromCivil(absl::CivilSecond(2026, 11, 29, 13, 42, second), absl::UTCTimeZone());
}

TEST(WalEnd, KnowsTheLastWholeRecordAndTheLastEnd) {
  WalEnd end;
  for (const char* at = kLines; *at != '\0'; ++at) end.Take({at, 1});
  EXPECT_EQ(end.last_record(), "0/03000110");
  EXPECT_EQ(end.last_end(), At(27) + absl::Milliseconds(500));
}

TEST(WalEnd, ReadsWhatWasPreparedBefore) {
  WalEnd end;
  end.Take(
      "rmgr: Transaction len (rec/tot):     66/    66, tx:          0, lsn: 0/030000C0, prev "
      "0/03000028, desc: COMMIT_PREPARED 737: 2026-11-29 13:42:28.000001 UTC\n");
  EXPECT_EQ(end.last_end(), At(28) + absl::Microseconds(1));
}

TEST(WalEnd, OfNothingIsNothing) {
  WalEnd end;
  end.Take(
      "pg_waldump: error: could not find a valid record after 0/3000000\n, lsn: 0/1, desc: x\n");
  EXPECT_EQ(end.last_record(), "");
  EXPECT_EQ(end.last_end(), std::nullopt);
}

TEST(RecoverToRecord, TakesThePlaceOfTheMomentAndChangesNothingElse) {
  EXPECT_EQ(RecoverToRecord("# by pgBackRest\nrestore_command = 'x'\n"
                            "recovery_target_time = '2026-11-29 13:42:27+00'\n"
                            "recovery_target_action = 'promote'\n",
                            "0/3000110"),
            "# by pgBackRest\nrestore_command = 'x'\nrecovery_target_lsn = '0/3000110'\n"
            "recovery_target_action = 'promote'\n");
  EXPECT_EQ(RecoverToRecord("recovery_target_time = 'a'\nrecovery_target_time = 'b'", "0/1"),
            "recovery_target_lsn = '0/1'\n");
  EXPECT_EQ(RecoverToRecord("restore_command = 'x'\n", "0/1"), std::nullopt);
}

}  // namespace
}  // namespace muster::agent::backup
