// Identities, the deny set and the audit chain: what must not happen.
#include <atomic>

#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class IdentityConformance : public StoreTest {
 protected:
  IdentityStore& identity() { return store_->identity(); }

  std::vector<std::string> Denied(uint64_t after = 0) {
    std::vector<std::string> fingerprints;
    uint64_t last = after;
    const auto entries = identity().Denied(after);
    EXPECT_TRUE(entries.ok()) << Text(entries.status());
    for (const DenyEntry& entry : entries.value_or(std::vector<DenyEntry>{})) {
      EXPECT_GT(entry.id, last);
      last = entry.id;
      fingerprints.push_back(entry.fingerprint);
    }
    return fingerprints;
  }

  size_t AuditEntries() {
    return store_->audit().List(0, 10'000).value_or(std::vector<AuditRow>{}).size();
  }

  void Tamper(std::string_view sql) {
    ASSERT_TRUE(store_->database()
                    .Write([&](sql::Transaction& t) { return t.Execute(sql).status(); })
                    .ok());
  }
};
MUSTER_ON_EVERY_BACKEND(IdentityConformance);

TEST_P(IdentityConformance, AnAuthorityIsSavedOnce) {
  EXPECT_EQ(CodeOf(identity().LoadAuthority().status()), absl::StatusCode::kNotFound);
  ASSERT_TRUE(identity().SaveAuthority({"der", std::string("\0key", 4)}, Note()).ok());
  EXPECT_EQ(CodeOf(identity().SaveAuthority({"other", "key"}, Note())),
            absl::StatusCode::kAlreadyExists);
  const auto loaded = identity().LoadAuthority();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->certificate_der, "der");
  EXPECT_EQ(loaded->sealed_key, std::string("\0key", 4));
  EXPECT_EQ(AuditEntries(), 1U);
}

TEST_P(IdentityConformance, SixtyFourCallersOfOneTokenGetOneCertificate) {
  SaveToken("web-1", "token");
  std::atomic<int> won = 0;
  std::atomic<int> refused = 0;
  {
    std::vector<exec::Thread> callers;
    for (int i = 0; i < 64; ++i) {
      callers.emplace_back("caller", [&, i] {
        const auto given = identity().RedeemToken(
            "token", Certificate(v1::ROLE_AGENT, "web-1", std::to_string(i)), now_, Note());
        if (given.ok()) {
          EXPECT_EQ(given->serial, std::to_string(i));
          ++won;
        } else if (CodeOf(given.status()) == absl::StatusCode::kPermissionDenied) {
          ++refused;
        }
      });
    }
  }
  EXPECT_EQ(won, 1);
  EXPECT_EQ(refused, 63);
  int known = 0;
  for (int i = 0; i < 64; ++i) {
    const auto found = identity().FindCertificate("fp-" + std::to_string(i));
    ASSERT_TRUE(found.ok());
    known += found->has_value();
  }
  EXPECT_EQ(known, 1);
  EXPECT_EQ(AuditEntries(), 2U);
}

TEST_P(IdentityConformance, TheSameKeyGetsTheSameCertificateAgainUntilTheTokenExpires) {
  SaveToken("web-1", "token");
  CertificateRow first = Certificate(v1::ROLE_AGENT, "web-1", "1");
  CertificateRow second = Certificate(v1::ROLE_AGENT, "web-1", "2");
  second.public_key = first.public_key;
  ASSERT_TRUE(identity().RedeemToken("token", first, now_, Note()).ok());
  const auto again = identity().RedeemToken("token", second, now_, Note());
  ASSERT_TRUE(again.ok()) << Text(again.status());
  EXPECT_EQ(again->fingerprint, "fp-1");
  EXPECT_EQ(again->der, "der-1");
  const auto late = identity().RedeemToken("token", second, now_ + absl::Hours(1), Note());
  EXPECT_EQ(CodeOf(late.status()), absl::StatusCode::kPermissionDenied);
  EXPECT_FALSE(identity().FindCertificate("fp-2")->has_value());
}

TEST_P(IdentityConformance, ATokenIsForItsAgentAndItsHourAlone) {
  SaveToken("web-1", "token");
  const auto other = Certificate(v1::ROLE_AGENT, "web-2", "1");
  const auto own = Certificate(v1::ROLE_AGENT, "web-1", "2");
  EXPECT_EQ(CodeOf(identity().RedeemToken("token", other, now_, Note()).status()),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CodeOf(identity().RedeemToken("guess", own, now_, Note()).status()),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CodeOf(identity().RedeemToken("token", own, now_ + absl::Hours(1), Note()).status()),
            absl::StatusCode::kPermissionDenied);
  EXPECT_FALSE(store_->sessions().Find("web-1")->has_value());
  EXPECT_TRUE(identity().RedeemToken("token", own, now_ + absl::Minutes(59), Note()).ok());
}

TEST_P(IdentityConformance, ATokenIsSavedOnceAndKeepsItsLabels) {
  SaveToken("web-1", "token", {{"role", "web"}, {"zone", "a\"b"}});
  EXPECT_EQ(CodeOf(identity().SaveToken({"token", "web-2", {}, now_ + absl::Hours(1)}, Note())),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(identity().FindToken("token")->labels, (Labels{{"role", "web"}, {"zone", "a\"b"}}));
  EXPECT_EQ(CodeOf(identity().FindToken("guess").status()), absl::StatusCode::kNotFound);
}

TEST_P(IdentityConformance, RevokingAnAgentDeniesEveryCertificateAndRefusesItsSessions) {
  Enrol("web-1");
  Enrol("web-2");
  ASSERT_TRUE(
      identity().SaveCertificate(Certificate(v1::ROLE_AGENT, "web-1", "renewed"), Note()).ok());
  OpenSession("web-1");
  EXPECT_EQ(identity().Revoke(v1::ROLE_AGENT, "web-1", now_, Note()).value_or(0), 2U);
  EXPECT_THAT(Denied(), ::testing::UnorderedElementsAre("fp-web-1", "fp-renewed"));
  EXPECT_FALSE(identity().FindCertificate("fp-renewed")->has_value());
  EXPECT_TRUE(identity().FindCertificate("fp-web-2")->has_value());
  const auto opened =
      store_->sessions().Open({.agent = "web-1", .log_epoch = "log-1", .now = now_});
  EXPECT_EQ(CodeOf(opened.status()), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CodeOf(identity().SaveCertificate(Certificate(v1::ROLE_AGENT, "web-1", "3"), Note())),
            absl::StatusCode::kPermissionDenied);
  EXPECT_FALSE((*store_->sessions().Find("web-1"))->connected);
}

TEST_P(IdentityConformance, RevokingFencesTheLiveSession) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  ASSERT_TRUE(identity().Revoke(v1::ROLE_AGENT, "web-1", now_, Note()).ok());
  const auto outcome = store_->history().Commit({Batch("web-1", session.epoch, 1)}, now_);
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(CodeOf((*outcome)[0]), absl::StatusCode::kAborted);
}

TEST_P(IdentityConformance, ANewTokenAllowsARevokedAgentAgainButNotItsOldCertificate) {
  Enrol("web-1");
  ASSERT_TRUE(identity().Revoke(v1::ROLE_AGENT, "web-1", now_, Note()).ok());
  SaveToken("web-1", "second");
  ASSERT_TRUE(identity()
                  .RedeemToken("second", Certificate(v1::ROLE_AGENT, "web-1", "new"), now_, Note())
                  .ok());
  OpenSession("web-1");
  EXPECT_THAT(Denied(), ElementsAre("fp-web-1"));
  EXPECT_TRUE(identity().FindCertificate("fp-new")->has_value());
}

TEST_P(IdentityConformance, RevokingAnOperatorDeniesTheCertificatesOfEarlierRoles) {
  ASSERT_TRUE(identity().SaveCertificate(Certificate(v1::ROLE_ADMIN, "ada", "1"), Note()).ok());
  ASSERT_TRUE(identity().SaveCertificate(Certificate(v1::ROLE_VIEWER, "ada", "2"), Note()).ok());
  ASSERT_TRUE(identity().SaveCertificate(Certificate(v1::ROLE_VIEWER, "bob", "3"), Note()).ok());
  Enrol("ada");
  EXPECT_EQ(identity().RevokeOperator("ada", now_, Note()).value_or(0), 2U);
  EXPECT_THAT(Denied(), ::testing::UnorderedElementsAre("fp-1", "fp-2"));
  EXPECT_EQ(CodeOf(identity().SaveCertificate(Certificate(v1::ROLE_VIEWER, "ada", "4"), Note())),
            absl::StatusCode::kPermissionDenied);
  EXPECT_FALSE(identity().FindCertificate("fp-4")->has_value());
  const auto operators = identity().ListOperators();
  ASSERT_THAT(*operators, SizeIs(2));
  EXPECT_TRUE((*operators)[0].revoked);
  EXPECT_FALSE((*operators)[1].revoked);
  EXPECT_EQ(CodeOf(identity().RevokeOperator("eve", now_, Note()).status()),
            absl::StatusCode::kNotFound);
}

TEST_P(IdentityConformance, TheDenySetIsFollowedByItsNumbers) {
  for (const char* agent : {"a", "b", "c"}) {
    Enrol(agent);
    ASSERT_TRUE(identity().Revoke(v1::ROLE_AGENT, agent, now_, Note()).ok());
  }
  const auto all = identity().Denied(0);
  ASSERT_THAT(*all, SizeIs(3));
  EXPECT_THAT(Denied((*all)[0].id), ElementsAre("fp-b", "fp-c"));
  EXPECT_THAT(Denied((*all)[2].id), ElementsAre());
  // Once more denies nothing new.
  EXPECT_EQ(identity().Revoke(v1::ROLE_AGENT, "a", now_, Note()).value_or(9), 0U);
}

TEST_P(IdentityConformance, ARefusedChangeLeavesNoAuditEntry) {
  EXPECT_FALSE(identity().Revoke(v1::ROLE_AGENT, "nobody", now_, Note()).ok());
  EXPECT_FALSE(identity().SaveCertificate(Certificate(v1::ROLE_AGENT, "nobody", "1"), Note()).ok());
  EXPECT_FALSE(identity()
                   .RedeemToken("guess", Certificate(v1::ROLE_AGENT, "web-1", "1"), now_, Note())
                   .ok());
  EXPECT_EQ(AuditEntries(), 0U);
}

TEST_P(IdentityConformance, TheAuditChainHolds) {
  ASSERT_TRUE(store_->database()
                  .Write([&](sql::Transaction& t) -> Status {
                    for (int i = 0; i < 1500; ++i) {
                      MUSTER_RETURN_IF_ERROR(AppendAudit(t, Note("act." + std::to_string(i))));
                    }
                    return OkStatus();
                  })
                  .ok());
  EXPECT_TRUE(store_->audit().Verify().ok());
  const auto page = store_->audit().List(1498, 10);
  ASSERT_THAT(*page, SizeIs(2));
  EXPECT_EQ((*page)[0].note.action, "act.1498");
}

TEST_P(IdentityConformance, APlaceInTheAuditChainIsFoundAsItIsNow) {
  const auto empty = store_->audit().Look(1);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->last_sequence, 0U);
  EXPECT_FALSE(empty->hash.has_value());
  for (int i = 0; i < 5; ++i) SaveToken("web-1", "token-" + std::to_string(i));
  const auto entries = *store_->audit().List(0, 10);
  const auto third = store_->audit().Look(3);
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(third->last_sequence, 5U);
  EXPECT_EQ(third->last_hash, entries[4].hash);
  EXPECT_EQ(third->hash, entries[2].hash);
  EXPECT_FALSE(store_->audit().Look(0)->hash.has_value());
  EXPECT_FALSE(store_->audit().Look(6)->hash.has_value());
  // No sequence is too large to ask for.
  EXPECT_FALSE(store_->audit().Look(UINT64_MAX)->hash.has_value());
  Tamper("DELETE FROM audit WHERE sequence >= 4");
  EXPECT_EQ(store_->audit().Look(5)->last_sequence, 3U);
  EXPECT_FALSE(store_->audit().Look(5)->hash.has_value());
}

TEST_P(IdentityConformance, EveryTamperingWithTheAuditIsFound) {
  for (int i = 0; i < 6; ++i) SaveToken("web-" + std::to_string(i), "token-" + std::to_string(i));
  ASSERT_TRUE(store_->audit().Verify().ok());
  const auto found = [&](std::string_view change, std::string_view undo, std::string_view named) {
    Tamper(change);
    const Status status = store_->audit().Verify();
    EXPECT_EQ(CodeOf(status), absl::StatusCode::kDataLoss) << change;
    EXPECT_THAT(std::string(Message(status)), HasSubstr(std::string(named))) << change;
    Tamper(undo);
    EXPECT_TRUE(store_->audit().Verify().ok()) << undo;
  };
  found("UPDATE audit SET actor = 'admin/eve' WHERE sequence = 3",
        "UPDATE audit SET actor = 'admin/ada' WHERE sequence = 3", "entry 3");
  found("UPDATE audit SET at = at + 1 WHERE sequence = 1",
        "UPDATE audit SET at = at - 1 WHERE sequence = 1", "entry 1");
  // A letter that moves from one field to the next.
  found("UPDATE audit SET action = 'test.acts', subject = 'ubject' WHERE sequence = 4",
        "UPDATE audit SET action = 'test.act', subject = 'subject' WHERE sequence = 4", "entry 4");
  found("UPDATE audit SET sequence = -2 WHERE sequence = 2",
        "UPDATE audit SET sequence = 2 WHERE sequence = -2", "entry 2");
  Tamper("DELETE FROM audit WHERE sequence = 5");
  EXPECT_EQ(CodeOf(store_->audit().Verify()), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace muster::control
