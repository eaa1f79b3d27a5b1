#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"

namespace muster::spec {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr char kCommand[] = "  command: {argv: [/bin/true]}\n";

// The spec begins in line 5.
std::string Job(const std::string& spec) {
  return "apiVersion: muster/v1\nkind: Job\nmetadata: {name: nightly}\nspec:\n" + spec;
}
std::string Scheduled(const std::string& schedule) {
  return Job("  schedule: " + schedule + "\n" + kCommand);
}

std::string Problems(const std::string& yaml) {
  std::string all;
  for (const Problem& problem : ParseYaml(yaml, "f").problems) all += Text(problem) + "\n";
  return all;
}

v1::JobSpec Parsed(const std::string& yaml) {
  EXPECT_EQ(Problems(yaml), "");
  return ParseYaml(yaml, "f").documents.at(0).job();
}

struct BadCase {
  const char* name;
  std::string yaml;
  const char* expected;  // the whole text of all problems
};

class BadJob : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadJob, NamesThePlaceAndTheRemedy) {
  EXPECT_EQ(Problems(GetParam().yaml), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadJob,
    ::testing::Values(
        BadCase{"NoTask", Job("  deadline: 1h\n"),
                "f:5:3: spec: needs one of: command, backup, "
                "verifyBackup, restoreBackup, forgetBackups, "
                "listBackups, reported, drillBackup\n"},
        BadCase{
            "CronWithALetter", Scheduled("{cron: 0 x * * *}"),
            "f:5:20: spec.schedule.cron: cron \"0 x * * *\": hour \"x\" at column 3: write 0 to "
            "23\n"},
        BadCase{"CronThatNeverComes", Scheduled("{cron: 0 0 30 2 *}"),
                "f:5:20: spec.schedule.cron: cron \"0 0 30 2 *\": no month that it names has such "
                "a day, so it never comes; write L for the last day of a month\n"},
        BadCase{"CronOutsideOfQuotes", Scheduled("{cron: */5 * * * *}"),
                "f:5:20: the referenced anchor is not defined; a text that begins with * "
                "stands in quotes, as in cron: \"*/5 * * * *\"\n"},
        BadCase{"CronAndEvery", Scheduled("{cron: '@daily', every: 1h}"),
                "f:5:30: spec.schedule.every: cannot stand beside cron\n"},
        BadCase{"NoTimes", Scheduled("{jitter: 1m}"),
                "f:5:13: spec.schedule: needs one of: cron, every, at\n"},
        BadCase{"UnknownZone", Scheduled("{cron: '@daily', timeZone: Berlin}"),
                "f:5:40: spec.schedule.timeZone: time zone \"Berlin\": this system's tzdata has "
                "none of that name; write one of IANA's, such as Europe/Berlin or UTC (see "
                "timedatectl list-timezones)\n"},
        BadCase{"ZoneOfEvery", Scheduled("{every: 1h, timeZone: Europe/Berlin}"),
                "f:5:35: spec.schedule.timeZone: only cron has a time zone; leave it out, or write "
                "cron instead of every\n"},
        BadCase{"ZoneOfAt", Scheduled("{at: 2026-12-24T02:00:00Z, timeZone: Europe/Berlin}"),
                "f:5:50: spec.schedule.timeZone: only cron has a time zone; write the offset in "
                "at: 2026-12-24T03:00:00+01:00\n"},
        BadCase{"AtWithoutOffset", Scheduled("{at: 2026-12-24 02:00}"),
                "f:5:18: spec.schedule.at: \"2026-12-24 02:00\" is not a time; write it as "
                "2026-12-24T02:00:00Z, or with an offset as 2026-12-24T03:00:00+01:00\n"},
        BadCase{"AtNever", Scheduled("{at: infinite-future}"),
                "f:5:18: spec.schedule.at: \"infinite-future\" is not a time; write it as "
                "2026-12-24T02:00:00Z, or with an offset as 2026-12-24T03:00:00+01:00\n"},
        BadCase{"EmptyAt", Scheduled("{at: ''}"),
                "f:5:18: spec.schedule.at: is empty; write a value\n"},
        BadCase{"JitterBeyondEvery", Scheduled("{every: 10m, jitter: 15m}"),
                "f:5:34: spec.schedule.jitter: 15m is longer than every (10m), so starts would "
                "change their order; write 10m or less\n"},
        BadCase{"CatchUpTooShort", Scheduled("{every: 10m, catchUp: 1s}"),
                "f:5:35: spec.schedule.catchUp: 1s is too short; the least is 1m\n"},
        BadCase{"UnknownOverlap", Scheduled("{every: 10m, overlap: bufferOn}"),
                "f:5:35: spec.schedule.overlap: \"bufferOn\" is none of the values; did you mean "
                "\"bufferOne\"?\n"},
        BadCase{"NoSuchOverlap", Scheduled("{every: 10m, overlap: queue}"),
                "f:5:35: spec.schedule.overlap: \"queue\" is none of the values; there are: skip, "
                "bufferOne, bufferAll, cancelOther, terminateOther, allow\n"},
        BadCase{"CronOfABlackout",
                Scheduled("{every: 1h, blackouts: [{name: a, cron: '@daily', lasts: 1h}, {name: b, "
                          "cron: '0 25 * * *', lasts: 1h}]}"),
                "f:5:91: spec.schedule.blackouts[1].cron: cron \"0 25 * * *\": hour \"25\" at "
                "column 3: write 0 to 23\n"},
        BadCase{
            "BlackoutsInBlockStyle",
            Job("  schedule:\n    every: 1h\n    blackouts:\n      - name: a\n        at: "
                "soon\n        lasts: 1h\n      - at: 2026-12-24T02:00:00Z\n        last: 1h\n" +
                std::string(kCommand)),
            "f:12:9: spec.schedule.blackouts[1].last: unknown field \"last\"; did you mean "
            "\"lasts\"?\n"},
        BadCase{"BlackoutWithoutEnd",
                Job("  schedule:\n    every: 1h\n    blackouts:\n      - {name: a, at: soon}\n" +
                    std::string(kCommand)),
                "f:8:9: spec.schedule.blackouts[0].lasts: is required\n"
                "f:8:23: spec.schedule.blackouts[0].at: \"soon\" is not a time; write it as "
                "2026-12-24T02:00:00Z, or with an offset as 2026-12-24T03:00:00+01:00\n"},
        BadCase{"BlackoutThatIsAText", Scheduled("{every: 1h, blackouts: [never]}"),
                "f:5:37: spec.schedule.blackouts[0]: must be a map of fields\n"},
        BadCase{"RetryOfWhatMayNotBeRepeated",
                Job("  retry: {attempts: 3}\n" + std::string(kCommand)),
                "f:5:21: spec.retry.attempts: 3 attempts, but the command is not said to be "
                "repeatable; set spec.command.repeatable: true if doing it twice is as good as "
                "once, or drop retry\n"},
        BadCase{"WaitBeyondLongestWait", Job("  retry: {wait: 1h}\n" + std::string(kCommand)),
                "f:5:17: spec.retry.wait: 1h is longer than longestWait (10m); write a longestWait "
                "of 1h or more\n"},
        BadCase{"TooManyAttempts",
                Job("  retry: {attempts: 21}\n  command: {argv: [/bin/true], repeatable: true}\n"),
                "f:5:21: spec.retry.attempts: 21 is out of bounds: 1 to 20\n"},
        BadCase{"RelativeProgram", Job("  command: {argv: [vacuumdb, --all]}\n"),
                "f:5:20: spec.command.argv[0]: \"vacuumdb\" is not an absolute path; write where "
                "the program is, such as /usr/bin/vacuumdb: there is no shell that would look for "
                "it\n"},
        BadCase{"NoProgram", Job("  command: {argv: []}\n"),
                "f:5:19: spec.command.argv: is required\n"},
        BadCase{"ZeroByte", Job("  command: {argv: [/bin/echo, \"a\\0b\"]}\n"),
                "f:5:31: spec.command.argv[1]: holds a zero byte, which no program can be given\n"},
        BadCase{"RelativeDirectory", Job("  command: {argv: [/bin/true], directory: tmp}\n"),
                "f:5:43: spec.command.directory: \"tmp\" is not an absolute path\n"},
        BadCase{"NameOfAVariable", Job("  command: {argv: [/bin/true], environment: {a-b: c}}\n"),
                "f:5:51: spec.command.environment.a-b: is not a name of a variable: letters, "
                "digits and _, not first a digit\n"},
        BadCase{"VariableOfMuster",
                Job("  command: {argv: [/bin/true], environment: {MUSTER_RUN: c}}\n"),
                "f:5:58: spec.command.environment.MUSTER_RUN: names that begin with MUSTER_ are "
                "muster's own; take another\n"},
        BadCase{"ExitCodeThatCannotBe", Job("  command: {argv: [/bin/true], success: [0, 256]}\n"),
                "f:5:45: spec.command.success[1]: 256 is out of bounds: 0 to 255\n"},
        BadCase{"ExclusiveName", Job("  exclusive: [Database]\n" + std::string(kCommand)),
                "f:5:15: spec.exclusive[0]: \"Database\" is not a name like database/orders: "
                "lower-case letters, digits, '-', '.' and '/', at most 128\n"},
        BadCase{"DeadlineTooLong", Job("  deadline: 8d\n" + std::string(kCommand)),
                "f:5:13: spec.deadline: 8d is too long; the most is 7d\n"}),
    [](const auto& info) { return info.param.name; });

TEST(JobSpec, DefaultsAreFilledIn) {
  const v1::JobSpec job = Parsed(Scheduled("{cron: '@daily'}"));
  EXPECT_EQ(job.deadline().seconds(), 3600);
  EXPECT_EQ(job.schedule().time_zone(), "UTC");
  EXPECT_EQ(job.schedule().catch_up().seconds(), 3600);
  EXPECT_EQ(job.schedule().overlap(), v1::OVERLAP_POLICY_SKIP);
  EXPECT_EQ(job.retry().attempts(), 1u);
  EXPECT_EQ(job.retry().wait().seconds(), 30);
  EXPECT_EQ(job.retry().longest_wait().seconds(), 600);
  EXPECT_EQ(job.command().directory(), "/");
}

std::string Backup(const std::string& fields) {
  return Job("  backup:\n    repository: {path: /srv/b, password: {secret: file:/k}}\n" + fields);
}

TEST(JobSpec, OfABackupIsReadWithItsDefaults) {
  const v1::BackupTask backup =
      Parsed(Backup("    postgres: {connection: {secret: file:/dsn}, method: dump}\n"
                    "    keep: {last: 7, daily: 14, minimumAge: 2d}\n"
                    "    verify: {restore: true, queries: [select true]}\n"))
          .backup();
  EXPECT_EQ(backup.staging(), "/var/lib/muster/staging");
  EXPECT_EQ(backup.postgres().parallel(), 2U);
  EXPECT_EQ(backup.keep().verified(), 1U);
  EXPECT_EQ(Parsed(Backup("    redis: {address: localhost:6379}\n")).backup().keep().verified(),
            1U);
}

TEST(JobSpec, OfABackupThatCannotBeIsRefused) {
  EXPECT_NE(Problems(Backup("    postgres: {dsn: host=a password=b}\n"))
                .find("spec.backup.postgres.dsn: must not hold a password"),
            std::string::npos);
  EXPECT_NE(Problems(Backup("    files: {paths: [/srv]}\n")).find("holds the repository /srv/b"),
            std::string::npos);
  EXPECT_NE(Problems(Backup("    files: {paths: [/etc]}\n    verify: {queries: [select 1]}\n"))
                .find("are for postgres and pgbackrest alone"),
            std::string::npos);
  EXPECT_NE(Problems(Backup("    postgres: {dsn: host=a}\n    verify: {queries: [select 1]}\n"))
                .find("set verify.restore: true"),
            std::string::npos);
  EXPECT_NE(Problems(Backup("    staging: /var/tmp\n"))
                .find("spec.backup: needs one of: postgres, redis, files"),
            std::string::npos);
}

TEST(JobSpec, OfABackupByPgBackRestHasNoOtherRepository) {
  const std::string stanza = "pgbackrest: {stanza: main, type: incremental, fullEvery: 7d}\n";
  const v1::BackupTask backup = Parsed(Job("  backup:\n    " + stanza +
                                           "    verify: {restore: true, queries: [select true]}\n"))
                                    .backup();
  EXPECT_EQ(backup.pgbackrest().type(), v1::PG_BACK_REST_TYPE_INCREMENTAL);
  EXPECT_EQ(backup.pgbackrest().config_file(), "/etc/pgbackrest.conf");
  EXPECT_EQ(backup.pgbackrest().user(), "postgres");
  EXPECT_EQ(backup.pgbackrest().repository(), 1U);
  EXPECT_NE(Problems(Backup("    " + stanza))
                .find("f:6:17: spec.backup.repository: pgbackrest has a repository of its own"),
            std::string::npos)
      << Problems(Backup("    " + stanza));
  EXPECT_NE(Problems(Job("  backup:\n    files: {paths: [/etc]}\n"))
                .find("spec.backup.repository: is required"),
            std::string::npos);
  EXPECT_NE(Problems(Job("  backup:\n    pgbackrest: {stanza: ../main}\n")).find("a stanza's name"),
            std::string::npos);
}

TEST(JobSpec, OfARestoreNamesAMomentOfPgBackRestAlone) {
  const std::string backup =
      "    backup: {snapshotId: 20261128-020000F, engine: pgbackrest}\n    folder: /srv/x\n";
  EXPECT_EQ(Problems(Job("  restoreBackup:\n" + backup +
                         "    pgbackrest: {stanza: main}\n"
                         "    targetTime: 2026-12-24T02:00:00Z\n")),
            "");
  EXPECT_NE(Problems(Job("  restoreBackup:\n" + backup +
                         "    pgbackrest: {stanza: main}\n    targetTime: yesterday\n"))
                .find("is not a time"),
            std::string::npos);
  EXPECT_NE(Problems(Job("  restoreBackup:\n" + backup +
                         "    repository: {path: /srv/b, password: {secret: file:/k}}\n"
                         "    targetTime: 2026-12-24T02:00:00Z\n"))
                .find("is for pgbackrest alone"),
            std::string::npos);
}

TEST(JobSpec, WithoutAScheduleItHasNone) { EXPECT_FALSE(Parsed(Job(kCommand)).has_schedule()); }

TEST(JobSpec, EveryOverlapIsReadAndWrittenInOneWay) {
  for (const char* overlap :
       {"skip", "bufferOne", "bufferAll", "cancelOther", "terminateOther", "allow"}) {
    const std::string yaml = Scheduled(fmt::format("{{every: 1h, overlap: {}}}", overlap));
    ASSERT_EQ(Problems(yaml), "");
    const std::string text = FormatYaml(ParseYaml(yaml, "f").documents.at(0));
    EXPECT_NE(text.find(fmt::format("overlap: {}\n", overlap)), std::string::npos) << text;
  }
  EXPECT_EQ(Parsed(Scheduled("{every: 1h, overlap: buffer_one}")).schedule().overlap(),
            v1::OVERLAP_POLICY_BUFFER_ONE);
}

TEST(JobSpec, AReportedJobSaysOnlyWhenItIsExpected) {
  const std::string good =
      Job("  schedule: {cron: '0 2 * * *', catchUp: 15m}\n  deadline: 1h\n  reported: {success: "
          "[0, 3]}\n");
  EXPECT_EQ(Parsed(good).reported().success_size(), 2);
  EXPECT_EQ(Problems(Job("  reported: {}\n")), "");
  EXPECT_EQ(Problems(Job("  retry: {attempts: 2}\n  exclusive: [disk]\n  schedule: {every: 1h, "
                         "jitter: 1m, overlap: allow}\n  reported: {}\n")),
            "f:5:21: spec.retry.attempts: a reported job is begun by its host, which alone can try "
            "again; leave retry out\n"
            "f:6:14: spec.exclusive: a reported job is begun by its host, which waits for nobody; "
            "leave it out\n"
            "f:7:33: spec.schedule.jitter: a reported job is begun by its host; leave it out, and "
            "say how late it may be in catchUp\n"
            "f:7:46: spec.schedule.overlap: a reported job is begun by its host, whatever else "
            "runs; leave it out\n");
  EXPECT_EQ(Problems(Job("  reported: {success: [256]}\n")),
            "f:5:24: spec.reported.success[0]: 256 is out of bounds: 0 to 255\n");
}

TEST(JobSpec, ATimeMayHaveAnOffset) {
  EXPECT_EQ(Problems(Scheduled("{at: 2026-12-24T03:00:00+01:00}")), "");
  EXPECT_EQ(Problems(Scheduled("{at: 2026-12-24T02:00:00.5Z}")), "");
}

TEST(JobSpec, TheZoneOfEveryIsThatOfItsBlackouts) {
  EXPECT_EQ(Problems(Scheduled("{every: 1h, timeZone: Europe/Berlin, blackouts: [{name: a, cron: "
                               "'@daily', lasts: 1h}]}")),
            "");
}

TEST(JobSpec, JitterMayReachTheNextSlot) {
  EXPECT_EQ(Problems(Scheduled("{every: 10m, jitter: 10m}")), "");
}

TEST(JobSpec, ReadsBackAsItWasWritten) {
  const std::string yaml =
      Job("  schedule:\n    cron: '30 2 * * MON-FRI'\n    timeZone: Europe/Berlin\n    blackouts:\n"
          "      - {name: 'a: b', at: 2026-12-24T00:00:00Z, lasts: 1d}\n"
          "      - {name: b, cron: '@monthly', lasts: 1h30m}\n"
          "  exclusive: [database/orders, disk]\n"
          "  command: {argv: [/bin/echo, '1', 'a b', '*'], environment: {A: 'x y'}, success: [0, "
          "3]}\n");
  ASSERT_EQ(Problems(yaml), "");
  const v1::Document document = ParseYaml(yaml, "f").documents.at(0);
  const std::string text = FormatYaml(document);
  ASSERT_EQ(Problems(text), "") << text;
  EXPECT_TRUE(MessageDifferencer::Equals(ParseYaml(text, "f").documents.at(0), document)) << text;
  EXPECT_EQ(FormatYaml(ParseYaml(text, "f").documents.at(0)), text);
  EXPECT_EQ(DocumentHash(ParseYaml(text, "f").documents.at(0)), DocumentHash(document));
}

TEST(JobSpec, ChangesItsHashWithWhatItDoes) {
  const auto hash = [](const std::string& schedule) {
    return DocumentHash(ParseYaml(Scheduled(schedule), "f").documents.at(0));
  };
  EXPECT_EQ(hash("{every: 1h}"), hash("{every: 60m, overlap: skip}"));
  EXPECT_NE(hash("{every: 1h}"), hash("{every: 1h, overlap: allow}"));
}

TEST(JobSpec, WhatCameOverTheWireIsCheckedToo) {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Job");
  document.mutable_metadata()->set_name("nightly");
  document.mutable_job()->mutable_command()->add_argv("true");
  const auto problems = ValidateDocument(document);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].file, "Job/nightly");
  EXPECT_EQ(problems[0].field, "spec.command.argv[0]");
  document.mutable_job()->mutable_command()->set_argv(0, "/bin/true");
  EXPECT_TRUE(ValidateDocument(document).empty());
  document.set_kind("Check");
  EXPECT_FALSE(ValidateDocument(document).empty());
}

}  // namespace
}  // namespace muster::spec
