#include "lib/spec/spec.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lib/base/file.h"

namespace muster::spec {
namespace {

using google::protobuf::util::MessageDifferencer;

std::string Check(const std::string& spec) {
  return "apiVersion: muster/v1\nkind: Check\nmetadata: {name: api}\nspec:\n" + spec;
}

std::string Problems(const std::string& yaml) {
  std::string all;
  for (const Problem& problem : ParseYaml(yaml, "f.yaml").problems) all += Text(problem) + "\n";
  return all;
}

struct BadCase {
  const char* name;
  std::string yaml;
  const char* expected;
};

class BadSpec : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadSpec, NamesThePlaceAndTheRemedy) {
  EXPECT_NE(Problems(GetParam().yaml).find(GetParam().expected), std::string::npos)
      << Problems(GetParam().yaml);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSpec,
    ::testing::Values(
        BadCase{"UnknownField", Check("  probe:\n    htpp: {url: 'http://x/'}\n"),
                "f.yaml:6:5: spec.probe.htpp: unknown field \"htpp\"; did you mean \"http\"?"},
        BadCase{"WrongDuration", Check("  every: 10\n  probe: {tcp: {address: 'a:1'}}\n"),
                "f.yaml:5:10: spec.every: \"10\" is not a duration"},
        BadCase{"TimeoutOverEvery",
                Check("  every: 1s\n  timeout: 2s\n  probe: {tcp: {address: 'a:1'}}\n"),
                "f.yaml:6:12: spec.timeout: 2s is longer than every (1s)"},
        BadCase{"TooOften", Check("  every: 1ms\n  probe: {tcp: {address: 'a:1'}}\n"),
                "the least is 100ms"},
        BadCase{"NoProbe", Check("  every: 1s\n"), "spec.probe: is required"},
        BadCase{"EmptyProbe", Check("  probe: {}\n"), "spec.probe: needs one of: http, tcp"},
        BadCase{"TwoProbes", Check("  probe: {tcp: {address: 'a:1'}, icmp: {host: b}}\n"),
                "cannot stand beside tcp"},
        BadCase{"NotAUrl", Check("  probe: {http: {url: 'ftp://x'}}\n"),
                "is not an http:// or https:// URL"},
        BadCase{"WrongStatus",
                Check("  probe: {http: {url: 'http://x', expect: {status: [200, 700]}}}\n"),
                "spec.probe.http.expect.status[1]: 700 is out of bounds: 100 to 599"},
        BadCase{"PortBeyondAll", Check("  probe: {tcp: {address: 'a:65536'}}\n"),
                "spec.probe.tcp.address: port 65536 is out of bounds: 1 to 65535"},
        BadCase{"PortZeroInAUrl", Check("  probe: {http: {url: 'http://u@[::1]:0/x'}}\n"),
                "spec.probe.http.url: port 0 is out of bounds: 1 to 65535"},
        BadCase{"WarningBeyondTheDefaultOfCritical",
                Check("  probe: {host: {disk: {warningPercent: 96}}}\n"),
                "spec.probe.host.disk.warningPercent: 96 is more than criticalPercent (95), so it "
                "would never be WARNING"},
        BadCase{"WarningAgeBeyondCritical",
                Check("  probe: {file: {path: /a, warningAge: 2h, criticalAge: 1h}}\n"),
                "spec.probe.file.warningAge: 2h is more than criticalAge (1h)"},
        BadCase{"BadPattern", Check("  probe: {tcp: {address: 'a:1', expect: '('}}\n"),
                "is not a regular expression"},
        BadCase{"PasswordInDsn", Check("  probe: {postgres: {dsn: 'host=a password=b'}}\n"),
                "must not hold a password"},
        BadCase{"PasswordInUri", Check("  probe: {postgres: {dsn: 'postgres://u:p@host/db'}}\n"),
                "must not hold a password"},
        BadCase{"PlainSecret", Check("  probe: {postgres: {connection: {secret: hunter2}}}\n"),
                "is not file:/PATH"},
        BadCase{"RelativePlugin", Check("  probe: {plugin: {command: [check_x]}}\n"),
                "is not an absolute path"},
        BadCase{"EmptyProcessName", Check("  probe: {process: {name: ''}}\n"),
                "f.yaml:5:27: spec.probe.process.name: is empty; write a value"},
        BadCase{"BlankUnit", Check("  probe: {process: {unit: ' '}}\n"),
                "f.yaml:5:27: spec.probe.process.unit: is empty; write a value"},
        BadCase{"EmptyPidFile", Check("  probe: {process: {pidFile: ''}}\n"),
                "f.yaml:5:30: spec.probe.process.pidFile: is empty; write a value"},
        BadCase{"RelativePidFile", Check("  probe: {process: {pidFile: run/x.pid}}\n"),
                "\"run/x.pid\" is not an absolute path"},
        BadCase{"NoProcess", Check("  probe: {process: {atLeast: 2}}\n"),
                "spec.probe.process: needs one of: name, unit, pidFile"},
        BadCase{"NothingOfTheHost", Check("  probe: {host: {}}\n"),
                "spec.probe.host: needs one of: load, memory, disk, time"},
        BadCase{"BlankHost", Check("  probe: {icmp: {host: ' '}}\n"),
                "spec.probe.icmp.host: is empty; write a value"},
        BadCase{"EmptyHost", Check("  probe: {icmp: {host: ''}}\n"),
                "spec.probe.icmp.host: is required"},
        BadCase{"BlankName", Check("  probe: {dns: {name: '\t'}}\n"),
                "spec.probe.dns.name: is empty; write a value"},
        BadCase{"EmptyAnswer", Check("  probe: {dns: {name: a, expect: [10.0.0.1, '']}}\n"),
                "spec.probe.dns.expect[1]: is empty; write a value"},
        BadCase{"UrlWithoutHost", Check("  probe: {http: {url: 'https:///health'}}\n"),
                "spec.probe.http.url: \"https:///health\" is not an http:// or https:// URL with"},
        BadCase{"UrlWithAPortOnly", Check("  probe: {http: {url: 'http://:80/'}}\n"),
                "is not an http:// or https:// URL with a host"},
        BadCase{"NamelessHeader", Check("  probe: {http: {url: 'http://x', headers: {'': a}}}\n"),
                "spec.probe.http.headers: holds a header without a name"},
        BadCase{"NamelessExpectedHeader",
                Check("  probe: {http: {url: 'http://x', expect: {headers: {'': a}}}}\n"),
                "spec.probe.http.expect.headers: holds a header without a name"},
        BadCase{"EmptySecret", Check("  probe: {redis: {address: 'a:1', auth: {}}}\n"),
                "spec.probe.redis.auth.secret: is required"},
        BadCase{"SecretWithoutName",
                Check("  probe: {redis: {address: 'a:1', auth: {secret: 'env:'}}}\n"),
                "is not file:/PATH"},
        BadCase{"BlankDsn", Check("  probe: {postgres: {dsn: ' '}}\n"),
                "needs exactly one of dsn and connection"},
        BadCase{"BlankQuery", Check("  probe: {postgres: {dsn: 'host=a', query: {sql: ' '}}}\n"),
                "spec.probe.postgres.query.sql: is empty; write a value"},
        BadCase{"EmptyRange",
                Check("  probe: {postgres: {dsn: 'host=a', query: {sql: s, critical: {}}}}\n"),
                "spec.probe.postgres.query.critical: needs atLeast, atMost or both"},
        BadCase{"RangeOfNothing",
                Check("  probe: {postgres: {dsn: 'host=a', query: {sql: s, warning: "
                      "{atLeast: 2, atMost: 1}}}}\n"),
                "spec.probe.postgres.query.warning: no answer can be in it"},
        BadCase{"EmptyCommand", Check("  probe: {plugin: {command: []}}\n"),
                "spec.probe.plugin.command: is required"},
        BadCase{"NoProgram", Check("  probe: {plugin: {command: ['', '-w', '']}}\n"),
                "spec.probe.plugin.command[0]: is not an absolute path"},
        BadCase{"RepeatedKey",
                Check("  every: 1s\n  every: 2s\n  probe: {tcp: {address: 'a:1'}}\n"),
                "f.yaml:6:3: spec.every: stands twice"},
        BadCase{"Alias", "a: &x 1\nb: *x\n", "aliases are not taken"},
        BadCase{"Syntax", "a: [1, 2\nb: 3\n", "f.yaml:2:"},
        BadCase{"WrongKind", "apiVersion: muster/v1\nkind: Chekc\nmetadata: {name: a}\nspec: {}\n",
                "f.yaml:2:7: kind: \"Chekc\" is no kind; did you mean \"Check\"?"},
        BadCase{"WrongVersion", "apiVersion: v2\nkind: Check\nmetadata: {name: a}\nspec: {}\n",
                "apiVersion: must be muster/v1"},
        BadCase{"BadName",
                "apiVersion: muster/v1\nkind: Check\nmetadata: {name: A_b}\nspec: {probe: {icmp: "
                "{host: a}}}\n",
                "metadata.name: \"A_b\" is not lower-case letters"},
        BadCase{"ListForText", Check("  description: [a]\n  probe: {icmp: {host: a}}\n"),
                "must be a single value"},
        BadCase{"TextForMap", Check("  probe: http\n"),
                "f.yaml:5:10: spec.probe: must be a map of fields"},
        BadCase{"NotADocument", "just text\n", "must be a map"},
        BadCase{"SlackWithoutUrl",
                "apiVersion: muster/v1\nkind: Receiver\nmetadata: {name: a}\nspec: {slack: {}}\n",
                "needs exactly one of url and urlFrom"},
        BadCase{"MailPasswordWithoutUser",
                "apiVersion: muster/v1\nkind: Receiver\nmetadata: {name: a}\nspec: {email: "
                "{server: 'a:25', from: a@b, "
                "to: [c@d], password: {secret: 'file:/x'}}}\n",
                "spec.email.username: is required"}),
    [](const auto& info) { return info.param.name; });

TEST(Spec, AllProblemsOfAFileAreTold) {
  const Parsed parsed =
      ParseYaml(Check("  every: x\n  timeout: y\n  probe: {nope: 1}\n"), "f.yaml");
  EXPECT_EQ(parsed.problems.size(), 3u);
}

TEST(Spec, AnEmptyArgumentOfAProgramIsTaken) {
  EXPECT_EQ(Problems(Check("  probe: {plugin: {command: [/usr/bin/test, -z, '']}}\n")), "");
}

TEST(Spec, EveryHostOfAUrlIsTaken) {
  for (const char* url : {"http://a", "https://a.example:8443/b?c#d", "http://[::1]:80/",
                          "http://10.0.0.1?x", "https://user:word@a/"}) {
    EXPECT_EQ(Problems(Check(fmt::format("  probe: {{http: {{url: '{}'}}}}\n", url))), "") << url;
  }
}

TEST(Spec, TheSameNameTwiceIsRefused) {
  const std::string one = Check("  probe: {icmp: {host: a}}\n");
  EXPECT_NE(Problems(one + "---\n" + one).find("Check/api stands twice"), std::string::npos);
}

TEST(Spec, DefaultsAreFilledIn) {
  const Parsed parsed = ParseYaml(Check("  every: 5s\n  probe: {http: {url: 'http://x/'}}\n"), "f");
  ASSERT_TRUE(parsed.problems.empty()) << Text(parsed.problems[0]);
  const v1::CheckSpec& check = parsed.documents.at(0).check();
  EXPECT_EQ(check.timeout().seconds(), 5);
  EXPECT_EQ(check.confirm().failures(), 1u);
  EXPECT_EQ(check.probe().http().method(), "GET");
}

TEST(Spec, DeepNestingIsRefusedBeforeItIsBuilt) {
  EXPECT_FALSE(ParseYaml(std::string(100'000, '['), "f").problems.empty());
  EXPECT_FALSE(ParseYaml(std::string(2 << 20, 'a'), "f").problems.empty());
}

TEST(Spec, WhatCameOverTheWireIsCheckedToo) {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name("api");
  document.mutable_check()->mutable_probe()->mutable_http()->set_url("ftp://x");
  const auto problems = ValidateDocument(document);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].file, "Check/api");
  document.mutable_check()->mutable_probe()->mutable_http()->set_url("http://x");
  EXPECT_TRUE(ValidateDocument(document).empty());
  document.set_kind("Receiver");
  EXPECT_FALSE(ValidateDocument(document).empty());
}

TEST(FormatYaml, QuotesOnlyWhatWouldBeReadAsSomethingElse) {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name("api");
  (*document.mutable_metadata()->mutable_labels())["plain"] = "db-1.example.org";
  (*document.mutable_metadata()->mutable_labels())["yes"] = "true";
  (*document.mutable_metadata()->mutable_labels())["number"] = "1e3";
  (*document.mutable_metadata()->mutable_labels())["text"] = "a: b #c";
  document.mutable_check()->mutable_probe()->mutable_http()->set_url("http://x/y?z=1");
  const std::string text = FormatYaml(document);
  for (const char* part : {"name: api\n", "plain: db-1.example.org\n", "\"yes\": \"true\"\n",
                           "number: \"1e3\"\n", "text: \"a: b #c\"\n", "url: http://x/y?z=1"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_TRUE(MessageDifferencer::Equals(ParseYaml(text, "again").documents.at(0).metadata(),
                                         document.metadata()));
}

class Examples : public ::testing::TestWithParam<const char*> {};

TEST_P(Examples, AreGoodAndReadBackTheSame) {
  const auto yaml = ReadFile(std::string(MUSTER_SOURCE_DIR) + "/deploy/examples/" + GetParam());
  ASSERT_TRUE(yaml.ok()) << yaml.status();
  const Parsed parsed = ParseYaml(*yaml, GetParam());
  for (const Problem& problem : parsed.problems) ADD_FAILURE() << Text(problem);
  ASSERT_FALSE(parsed.documents.empty());
  for (const v1::Document& document : parsed.documents) {
    const std::string text = FormatYaml(document);
    const Parsed again = ParseYaml(text, "again");
    ASSERT_TRUE(again.problems.empty()) << Text(again.problems[0]) << "\n" << text;
    EXPECT_TRUE(MessageDifferencer::Equals(document, again.documents.at(0))) << text;
    EXPECT_EQ(DocumentHash(document), DocumentHash(again.documents.at(0)));
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Examples,
                         ::testing::Values("this-host.yaml", "platform.yaml", "receivers.yaml",
                                           "jobs.yaml"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

}  // namespace
}  // namespace muster::spec
