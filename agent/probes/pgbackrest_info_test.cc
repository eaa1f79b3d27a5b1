#include "agent/probes/pgbackrest_info.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/testing/status.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// As pgBackRest 2.45 writes it: a full backup and one that builds upon it.
constexpr char kInfo[] = R"([{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1",
"max":"000000010000000000000006","min":"000000010000000000000001"}],"backup":[
{"annotation":{"muster-job":"nightly","muster-run":"77"},
"archive":{"start":"000000010000000000000003","stop":"000000010000000000000004"},
"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},"error":false,
"info":{"delta":22992576,"repository":{"delta":3081968,"size":3081968},"size":22992576},
"label":"20261128-170833F","lsn":{"start":"0/3000028","stop":"0/4000050"},"prior":null,
"reference":null,"timestamp":{"start":1795885713,"stop":1795885717},"type":"full"},
{"archive":{"start":"000000010000000000000006","stop":"000000010000000000000006"},
"database":{"id":1,"repo-key":1},"error":false,
"info":{"delta":1450250,"repository":{"delta":168320,"size":3087248},"size":23033536},
"label":"20261128-170833F_20261128-170913I","prior":"20261128-170833F",
"reference":["20261128-170833F"],"timestamp":{"start":1795885753,"stop":1795885754},"type":"incr"}],
"cipher":"aes-256-cbc","db":[{"id":1,"repo-key":1,"system-id":7713270384534136766,"version":"15"}],
"name":"main","repo":[{"cipher":"aes-256-cbc","key":1,"status":{"code":0,"message":"ok"}}],
"status":{"code":0,"lock":{"backup":{"held":true}},"message":"ok"}}])";

std::string Failing(int code, const std::string& message) {
  return fmt::format(
      R"([{{"archive":[],"backup":[],"db":[],"name":"main","repo":[{{"key":1,"status":)"
      R"({{"code":{},"message":"{}"}}}}],"status":{{"code":{},"message":"other"}}}}])",
      code, message, code);
}

TEST(StanzaInfo, IsReadAsPgBackRestWritesIt) {
  const StatusOr<StanzaInfo> info = ReadStanzaInfo(kInfo, "main", 1);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_TRUE(info->locked);
  EXPECT_EQ(info->archive_id, "15-1");
  ASSERT_EQ(info->backups.size(), 2U);
  const StanzaBackup& full = info->backups[0];
  EXPECT_EQ(full.job, "nightly");
  EXPECT_EQ(full.run, "77");
  EXPECT_EQ(full.bytes, 22992576U);
  const StanzaBackup& next = info->backups[1];
  EXPECT_EQ(next.prior, full.label);
  EXPECT_THAT(next.references, ElementsAre(full.label));
  EXPECT_EQ(next.stop, absl::FromUnixSeconds(1795885754));
  EXPECT_EQ(info->RepositoryId(*info->ServerOf(next)), "main:7713270384534136766");
  EXPECT_EQ(info->ArchiveOf(next), "15-1");
}

TEST(StanzaInfo, SaysWhatToDoWhereThereIsNone) {
  EXPECT_TRUE(absl::IsNotFound(ReadStanzaInfo(kInfo, "other", 1).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadStanzaInfo(kInfo, "main", 2).status()));
  const Status none = ReadStanzaInfo(Failing(1, "missing stanza path"), "main", 1).status();
  EXPECT_TRUE(absl::IsNotFound(none));
  EXPECT_THAT(std::string(Message(none)), HasSubstr("stanza-create"));
  const Status closed =
      ReadStanzaInfo(Failing(99, "[PathOpenError] unable to list: [13] Permission denied"), "main",
                     1)
          .status();
  EXPECT_TRUE(absl::IsPermissionDenied(closed));
  const Status wrong =
      ReadStanzaInfo(Failing(99, "[FormatError] key/value found outside of section: \\u0001x"),
                     "main", 1)
          .status();
  EXPECT_THAT(std::string(Message(wrong)), HasSubstr("repo-cipher-pass"));
  EXPECT_FALSE(ReadStanzaInfo("no json", "main", 1).ok());
}

TEST(StanzaInfo, SaysWhatToDoWhereAServiceKeepsIt) {
  const Status stranger =
      ReadStanzaInfo(Failing(99, "[ProtocolError] HTTP request failed with 403 (Forbidden): x"),
                     "main", 1)
          .status();
  EXPECT_TRUE(absl::IsPermissionDenied(stranger));
  EXPECT_THAT(std::string(Message(stranger)), HasSubstr("repo1-s3-key"));
  // Not what a wrong password of the repository is called.
  const Status untrusted =
      ReadStanzaInfo(Failing(99,
                             "[CryptoError] unable to verify certificate presented by "
                             "'localhost:443': [18] self-signed certificate"),
                     "main", 1)
          .status();
  EXPECT_TRUE(absl::IsUnavailable(untrusted));
  EXPECT_THAT(std::string(Message(untrusted)), HasSubstr("repo1-storage-ca-file"));
}

TEST(StanzaInfo, AStanzaWithoutBackupsIsOne) {
  EXPECT_TRUE(ReadStanzaInfo(Failing(2, "no valid backups"), "main", 1).ok());
}

std::string ListOf(const std::vector<std::string>& names) {
  std::string list = R"({".":{"type":"path"},"15-1":{"type":"path"})";
  int64_t time = 1000;
  for (const std::string& name : names) {
    list += fmt::format(R"(,"15-1/{}/{}-5b9a548584abff36ce325ca0f2c900480deaf910.gz":)"
                        R"({{"type":"file","size":1000,"time":{}}})",
                        name.substr(0, 16), name, time++);
  }
  return list + R"(,"15-1/00000002.history":{"type":"file","size":41,"time":1},)"
                R"("15-1/0000000100000000/000000010000000000000003.00000028.backup":)"
                R"({"type":"file","size":400,"time":1}})";
}

WalArchive ArchiveOf(const std::vector<std::string>& names, uint64_t size = 0) {
  StatusOr<WalArchive> archive = WalArchive::Read(ListOf(names), "15-1", size);
  EXPECT_TRUE(archive.ok()) << archive.status();
  return *std::move(archive);
}

std::vector<std::string> Gaps(const WalArchive& archive, std::string_view from) {
  std::vector<std::string> texts;
  for (const auto& gap : archive.GapsFrom(*archive.Parse(from)))
    texts.push_back(archive.GapText(gap));
  return texts;
}

TEST(WalArchive, NamesWhatIsMissing) {
  const WalArchive archive =
      ArchiveOf({"000000010000000000000003", "000000010000000000000004", "000000010000000000000006",
                 "0000000100000000000000FF", "000000010000000100000000"});
  EXPECT_THAT(Gaps(archive, "000000010000000000000003"),
              ElementsAre("000000010000000000000005",
                          "000000010000000000000007 to 0000000100000000000000FE"));
  EXPECT_THAT(Gaps(archive, "0000000100000000000000FF"), IsEmpty());
  const auto first = archive.Parse("000000010000000000000003");
  EXPECT_EQ(archive.Name(*archive.LeadsTo(*first)), "000000010000000000000004");
  EXPECT_EQ(archive.MissingOf(*first, *archive.Parse("000000010000000000000004")), std::nullopt);
  EXPECT_EQ(archive.Name(*archive.MissingOf(*first, *archive.Parse("000000010000000000000005"))),
            "000000010000000000000005");
}

TEST(WalArchive, MissesTheBeginningToo) {
  const WalArchive archive = ArchiveOf({"000000010000000000000005"});
  EXPECT_THAT(Gaps(archive, "000000010000000000000003"),
              ElementsAre("000000010000000000000003 to 000000010000000000000004"));
  EXPECT_EQ(archive.LeadsTo(*archive.Parse("000000010000000000000003")), std::nullopt);
}

TEST(WalArchive, ATimelineGoesOnWhereItBranchesOff) {
  const WalArchive whole = ArchiveOf({"000000010000000000000003", "000000010000000000000004",
                                      "000000020000000000000004", "000000020000000000000005"});
  EXPECT_THAT(Gaps(whole, "000000010000000000000003"), IsEmpty());
  EXPECT_EQ(whole.Name(whole.newest()), "000000020000000000000005");
  const WalArchive broken = ArchiveOf({"000000010000000000000003", "000000020000000000000006"});
  EXPECT_THAT(Gaps(broken, "000000010000000000000003"),
              ElementsAre("000000010000000000000004 to 000000010000000000000005"));
}

TEST(WalArchive, KnowsSegmentsOfAnotherSize) {
  // Of 64 MiB there are 64 in 4 GiB.
  std::vector<std::string> names;
  for (int log = 0; log < 3; ++log)
    for (int low = 0; low < 64; ++low)
      names.push_back(fmt::format("00000001{:08X}{:08X}", log, low));
  EXPECT_THAT(Gaps(ArchiveOf(names), names.front()), IsEmpty());
  EXPECT_THAT(Gaps(ArchiveOf(names, 64 << 20), names.front()), IsEmpty());
  EXPECT_EQ(Gaps(ArchiveOf(names, 16 << 20), names.front()).size(), 2U);
}

TEST(WalArchive, IsNotReadFromWhatIsNoList) {
  EXPECT_TRUE(absl::IsDataLoss(WalArchive::Read("nothing", "15-1").status()));
  EXPECT_TRUE(ArchiveOf({}).empty());
}

StanzaBackup Full() {
  StanzaBackup backup;
  backup.label = "20261128-170953F";
  backup.first_segment = "000000010000000000000008";
  return backup;
}

std::string Verified(int wal, int valid_wal, int files, int valid_files, const char* status) {
  return fmt::format(
      "stanza: main\nstatus: error\n  archiveId: 15-1, total WAL checked: {}, total valid WAL: {}\n"
      "    missing: 0, checksum invalid: 0, size invalid: 0, other: 0\n"
      "  backup: 20261128-170953F, status: {}, total files checked: {}, total valid files: {}\n",
      wal, valid_wal, status, files, valid_files);
}

Status Read(const std::string& out, const std::string& log = "") {
  uint64_t files = 0;
  return ReadVerified(out, log, Full(), "15-1", files);
}

TEST(Verified, IsWhatWasReadWhole) {
  uint64_t files = 0;
  EXPECT_TRUE(ReadVerified(Verified(9, 9, 965, 965, "valid"), "", Full(), "15-1", files).ok());
  EXPECT_EQ(files, 965U);
}

TEST(Verified, NamesADamagedFileOfTheBackup) {
  const Status found = Read(Verified(9, 9, 965, 964, "invalid"),
                            "INFO: invalid checksum '20261128-170953F/pg_data/base/5/2838.gz'\n");
  EXPECT_TRUE(absl::IsDataLoss(found));
  EXPECT_THAT(std::string(Message(found)), HasSubstr("pg_data/base/5/2838.gz"));
}

TEST(Verified, MindsTheLogFromTheBackupOnAlone) {
  const std::string out = Verified(9, 8, 965, 965, "valid");
  const std::string mark = "INFO: invalid result 15-1/0000000100000000/00000001000000000000000";
  EXPECT_TRUE(Read(out, mark + "7-055edf.gz: [29] raised from local-1 protocol\n").ok());
  const Status later = Read(out, mark + "9-055edf.gz: [29] raised from local-1 protocol\n");
  EXPECT_THAT(std::string(Message(later)), HasSubstr("000000010000000000000009-055edf.gz"));
  EXPECT_TRUE(absl::IsDataLoss(Read(out)));
}

TEST(Verified, IsNothingThatWasNotLookedAt) {
  EXPECT_TRUE(absl::IsDataLoss(Read("")));
  EXPECT_TRUE(
      absl::IsDataLoss(Read("stanza: main\nstatus: error\n  No usable backup.info file\n")));
  EXPECT_TRUE(absl::IsDataLoss(Read(Verified(9, 9, 0, 0, "valid"))));
}

}  // namespace
}  // namespace muster::agent
