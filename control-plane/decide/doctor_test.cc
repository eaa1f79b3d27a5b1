#include "control-plane/decide/doctor.h"

#include <gtest/gtest.h>

namespace muster::control {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr absl::Duration kDay = absl::Hours(24);

AgentRow Well(std::string name) {
  AgentRow agent;
  agent.name = std::move(name);
  agent.connected = true;
  agent.last_seen_at = kNow;
  agent.disconnected_at = absl::InfiniteFuture();
  agent.certificate_expires_at = kNow + 20 * kDay;
  return agent;
}

DoctorFacts AllWell() {
  DoctorFacts facts{.authority_expires_at = kNow + 3000 * kDay,
                    .agents = {Well("db-1"), Well("web-1")},
                    .outbox = {.oldest_waiting = absl::InfiniteFuture()},
                    .receivers = 1,
                    .checks = 3};
  facts.disk_free_bytes = uint64_t{50} << 30U;
  facts.disk_size_bytes = uint64_t{100} << 30U;
  return facts;
}

// The level of the subject's worst finding.
v1::Finding::Level LevelOf(const DoctorFacts& facts, const std::string& subject) {
  auto worst = v1::Finding::LEVEL_UNSPECIFIED;
  for (const v1::Finding& finding : Diagnose(facts, kNow)) {
    if (finding.subject() == subject) worst = std::max(worst, finding.level());
  }
  return worst;
}

TEST(Doctor, FindsNothingWhereAllIsWell) {
  for (const v1::Finding& finding : Diagnose(AllWell(), kNow)) {
    EXPECT_EQ(finding.level(), v1::Finding::LEVEL_OK) << finding.DebugString();
  }
}

TEST(Doctor, ARedisThatIsAwayIsAWarningThatSaysWhatItCosts) {
  DoctorFacts facts = AllWell();
  EXPECT_EQ(LevelOf(facts, "redis"), v1::Finding::LEVEL_UNSPECIFIED);
  facts.redis = RedisFacts{.where = "redis://r:6379", .up = true, .problem = "was away once"};
  EXPECT_EQ(LevelOf(facts, "redis"), v1::Finding::LEVEL_OK);
  facts.redis->up = false;
  EXPECT_EQ(LevelOf(facts, "redis"), v1::Finding::LEVEL_WARNING);
  for (const v1::Finding& finding : Diagnose(facts, kNow)) {
    if (finding.subject() != "redis") continue;
    EXPECT_TRUE(finding.message().starts_with("redis://r:6379 is away: was away once; nothing"));
    EXPECT_FALSE(finding.remedy().empty());
  }
}

TEST(Doctor, NamesWhatIsWrongAndHowBad) {
  struct Case {
    const char* subject;
    v1::Finding::Level level;
    void (*change)(DoctorFacts&);
  };
  const Case cases[] = {
      {"certificate authority", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) { f.authority_expires_at = kNow + 30 * kDay; }},
      {"certificate authority", v1::Finding::LEVEL_FAILED,
       [](DoctorFacts& f) { f.authority_expires_at = kNow; }},
      {"agent db-1", v1::Finding::LEVEL_FAILED,
       [](DoctorFacts& f) {
         f.agents[0].connected = false;
         f.agents[0].disconnected_at = kNow - absl::Hours(2);
       }},
      {"agent db-1", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) {
         f.agents[0].connected = false;
         f.agents[0].disconnected_at = kNow - absl::Seconds(5);
       }},
      {"agent db-1", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) {
         f.agents[0].connected = false;
         f.agents[0].disconnected_at = kNow - absl::Hours(2);
         f.serving_since = kNow - absl::Seconds(5);
       }},
      {"agent db-1", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) {
         f.agents[0].connected = false;
         f.agents[0].last_seen_at = absl::InfinitePast();
       }},
      {"agent db-1", v1::Finding::LEVEL_FAILED,
       [](DoctorFacts& f) { f.agents[0].certificate_expires_at = kNow; }},
      {"agent db-1", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) { f.agents[0].clock_skew = -absl::Minutes(3); }},
      {"agents", v1::Finding::LEVEL_WARNING, [](DoctorFacts& f) { f.agents.clear(); }},
      {"audit witnesses", v1::Finding::LEVEL_FAILED,
       [](DoctorFacts& f) {
         f.witnesses = {{"db-1", 5, kNow, {Testimony::kMissing, 4, 5}}};
       }},
      {"audit witnesses", v1::Finding::LEVEL_FAILED,
       [](DoctorFacts& f) {
         f.witnesses = {{"", 5, kNow, {Testimony::kDiffers, 1, 5}}, {"db-1", 5, kNow, {}}};
       }},
      {"outbox", v1::Finding::LEVEL_FAILED, [](DoctorFacts& f) { f.outbox.failed = 2; }},
      {"outbox", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) {
         f.outbox.waiting = 4;
         f.outbox.oldest_waiting = kNow - absl::Minutes(9);
       }},
      {"receivers", v1::Finding::LEVEL_WARNING, [](DoctorFacts& f) { f.receivers = 0; }},
      {"checks", v1::Finding::LEVEL_WARNING, [](DoctorFacts& f) { f.checks = 0; }},
      {"disk", v1::Finding::LEVEL_FAILED, [](DoctorFacts& f) { f.disk_free_bytes = 1000; }},
      {"disk", v1::Finding::LEVEL_WARNING,
       [](DoctorFacts& f) { f.disk_free_bytes = uint64_t{1} << 30U; }},
  };
  for (const Case& c : cases) {
    DoctorFacts facts = AllWell();
    c.change(facts);
    EXPECT_EQ(LevelOf(facts, c.subject), c.level) << c.subject;
  }
}

TEST(Doctor, GivesARemedyForEverythingThatIsWrong) {
  DoctorFacts facts = AllWell();
  facts.authority_expires_at = kNow;
  facts.agents[0].connected = false;
  facts.agents[0].clock_skew = absl::Minutes(1);
  facts.agents[1].certificate_expires_at = kNow + absl::Hours(1);
  facts.outbox.failed = 1;
  facts.witnesses = {{"db-1", 5, kNow, {Testimony::kMissing, 4, 5}}};
  facts.receivers = facts.checks = 0;
  facts.disk_free_bytes = 0;
  for (const v1::Finding& finding : Diagnose(facts, kNow)) {
    if (finding.level() == v1::Finding::LEVEL_OK) continue;
    EXPECT_FALSE(finding.remedy().empty()) << finding.subject();
  }
}

TEST(Doctor, NamesTheWitnessAndTheEntries) {
  DoctorFacts facts = AllWell();
  facts.witnesses = {{"", 9, kNow, {}},
                     {"db-1", 12, kNow, {Testimony::kMissing, 10, 12}},
                     {"web-1", 7, kNow, {Testimony::kDiffers, 1, 7}},
                     {"web-2", 4, kNow, {}}};
  std::vector<std::string> messages;
  for (const v1::Finding& finding : Diagnose(facts, kNow)) {
    if (finding.subject() == "audit witnesses") messages.push_back(finding.message());
  }
  EXPECT_EQ(messages,
            (std::vector<std::string>{
                "agent db-1 holds a checkpoint of entry 12, signed at 2027-01-15T08:00:00Z: "
                "entries 10 to 12 are missing",
                "agent web-1 holds a checkpoint of entry 7, signed at 2027-01-15T08:00:00Z: "
                "something in entries 5 to 7 was changed"}));
}

TEST(Doctor, SaysNothingOfRevokedAgents) {
  DoctorFacts facts = AllWell();
  facts.agents[0].revoked = true;
  facts.agents[0].connected = false;
  EXPECT_EQ(LevelOf(facts, "agent db-1"), v1::Finding::LEVEL_UNSPECIFIED);
}

// Two replicas, r-a leads.
DoctorFacts Replicated() {
  DoctorFacts facts = AllWell();
  facts.database_now = kNow;
  for (const char* id : {"r-a", "r-b"}) {
    facts.replicas.push_back({.id = id, .version = "1.0", .started_at = kNow, .seen_at = kNow});
  }
  facts.lease = {{3}, "r-a", 1, kNow + absl::Seconds(2)};
  return facts;
}

TEST(Doctor, SeesWhoIsMissingAmongTheReplicas) {
  const DoctorFacts well = Replicated();
  EXPECT_EQ(LevelOf(well, "leader"), v1::Finding::LEVEL_OK);
  EXPECT_EQ(LevelOf(well, "replica r-b"), v1::Finding::LEVEL_UNSPECIFIED);
  EXPECT_EQ(LevelOf(well, "versions"), v1::Finding::LEVEL_UNSPECIFIED);
  DoctorFacts facts = well;
  facts.replicas[1].lost_at = kNow;
  EXPECT_EQ(LevelOf(facts, "replica r-b"), v1::Finding::LEVEL_FAILED);
  facts = well;
  facts.replicas[1].draining = true;
  EXPECT_EQ(LevelOf(facts, "replica r-b"), v1::Finding::LEVEL_WARNING);
  facts = well;
  facts.replicas[1].version = "1.1";
  EXPECT_EQ(LevelOf(facts, "versions"), v1::Finding::LEVEL_WARNING);
  facts = well;
  facts.lease.until = kNow;
  EXPECT_EQ(LevelOf(facts, "leader"), v1::Finding::LEVEL_FAILED);
  facts.lease = {};
  EXPECT_EQ(LevelOf(facts, "leader"), v1::Finding::LEVEL_FAILED);
}

}  // namespace
}  // namespace muster::control
