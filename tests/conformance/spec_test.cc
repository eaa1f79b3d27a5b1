// Applied documents: generations, numbers, all or none.
#include <set>

#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::Document Document(const std::string& kind, const std::string& name,
                      const std::string& label = "x") {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind(kind);
  document.mutable_metadata()->set_name(name);
  (*document.mutable_metadata()->mutable_labels())["label"] = label;
  (*document.mutable_metadata()->mutable_labels())["team"] = "core";
  (*document.mutable_metadata()->mutable_labels())["zone"] = "b";
  return document;
}

class SpecConformance : public StoreTest {
 protected:
  SpecStore& specs() { return store_->specs(); }

  // "CREATED Check/api 1" …
  std::vector<std::string> Apply(const std::vector<v1::Document>& documents) {
    const auto changes = specs().Apply(documents, Note("spec.apply"));
    EXPECT_TRUE(changes.ok()) << Text(changes.status());
    std::vector<std::string> texts;
    if (!changes.ok()) return texts;
    for (const v1::SpecChange& change : *changes) {
      const std::string action = v1::SpecChange::Action_Name(change.action()).substr(7);
      texts.push_back(
          fmt::format("{} {}/{} {}", action, change.kind(), change.name(), change.generation()));
    }
    return texts;
  }

  size_t AuditEntries() {
    return store_->audit().List(0, 10'000).value_or(std::vector<AuditRow>{}).size();
  }
};
MUSTER_ON_EVERY_BACKEND(SpecConformance);

TEST_P(SpecConformance, AGenerationGrowsWithAChangeAndWithNothingElse) {
  EXPECT_THAT(Apply({Document("Check", "api")}), ElementsAre("CREATED Check/api 1"));
  const uint64_t revision = *specs().Revision();
  EXPECT_THAT(Apply({Document("Check", "api")}), ElementsAre("UNCHANGED Check/api 1"));
  EXPECT_EQ(*specs().Revision(), revision);
  EXPECT_EQ(AuditEntries(), 1U);
  EXPECT_THAT(Apply({Document("Check", "api", "y"), Document("Receiver", "team")}),
              ElementsAre("CHANGED Check/api 2", "CREATED Receiver/team 1"));
  EXPECT_GT(*specs().Revision(), revision);
  EXPECT_EQ(AuditEntries(), 3U);
}

TEST_P(SpecConformance, TheSameContentHasTheSameHash) {
  Apply({Document("Check", "api")});
  const std::string hash = (*specs().Checks())[0].hash;
  Apply({Document("Check", "api", "y")});
  EXPECT_NE((*specs().Checks())[0].hash, hash);
  Apply({Document("Check", "api")});
  EXPECT_EQ((*specs().Checks())[0].hash, hash);
  EXPECT_EQ((*specs().Checks())[0].generation, 3U);
}

TEST_P(SpecConformance, ADiffChangesNothing) {
  Apply({Document("Check", "api")});
  const auto diffs = specs().Diff({Document("Check", "api", "y"), Document("Check", "new")});
  ASSERT_TRUE(diffs.ok());
  ASSERT_THAT(*diffs, SizeIs(2));
  EXPECT_EQ((*diffs)[0].change().action(), v1::SpecChange::ACTION_CHANGED);
  EXPECT_EQ((*diffs)[0].before().metadata().labels().at("label"), "x");
  EXPECT_EQ((*diffs)[1].change().action(), v1::SpecChange::ACTION_CREATED);
  EXPECT_THAT(*specs().Checks(), SizeIs(1));
  EXPECT_EQ(*specs().CheckId("new"), 0U);
  EXPECT_EQ(AuditEntries(), 1U);
}

TEST_P(SpecConformance, ACheckKeepsItsNumberForEver) {
  Apply({Document("Check", "a"), Document("Check", "b"), Document("Receiver", "r")});
  const uint32_t a = *specs().CheckId("a");
  const uint32_t b = *specs().CheckId("b");
  EXPECT_GT(a, 0U);
  EXPECT_NE(a, b);
  EXPECT_EQ(*specs().CheckId("r"), 0U);
  ASSERT_TRUE(specs().Delete({{"Check", "a"}}, Note()).ok());
  EXPECT_EQ(*specs().CheckId("a"), a);
  Apply({Document("Check", "c")});
  EXPECT_EQ(std::set<uint32_t>({a, b, *specs().CheckId("c")}).size(), 3U);
  Apply({Document("Check", "a", "again")});
  EXPECT_EQ((*specs().Checks())[0].check_id, a);
}

TEST_P(SpecConformance, DeletingIsAllOrNone) {
  Apply({Document("Check", "a"), Document("Check", "b")});
  const uint64_t revision = *specs().Revision();
  const auto refused = specs().Delete({{"Check", "a"}, {"Check", "typo"}}, Note());
  EXPECT_EQ(CodeOf(refused.status()), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(refused.status())), HasSubstr("Check/typo"));
  EXPECT_THAT(*specs().Checks(), SizeIs(2));
  EXPECT_EQ(*specs().Revision(), revision);
  EXPECT_EQ(AuditEntries(), 2U);
}

TEST_P(SpecConformance, DeletingACheckTakesItsStatesAndSaysSo) {
  Apply({Document("Check", "a"), Document("Check", "b")});
  const uint32_t a = *specs().CheckId("a");
  const uint32_t b = *specs().CheckId("b");
  for (const char* agent : {"web-1", "web-2"}) {
    Enrol(agent);
    BatchCommit batch = Batch(agent, OpenSession(agent).epoch, 1);
    batch.states = {State(agent, a, v1::CHECK_STATUS_CRITICAL),
                    State(agent, b, v1::CHECK_STATUS_OK)};
    ASSERT_TRUE(store_->history().Commit({batch}, now_).ok());
  }
  const uint64_t before = *store_->history().StateRevision();
  ASSERT_TRUE(specs().Delete({{"Check", "a"}}, Note()).ok());
  EXPECT_THAT(*store_->history().ListStates({.check_id = a}, "", 0, 10), IsEmpty());
  EXPECT_THAT(*store_->history().ListStates({.check_id = b}, "", 0, 10), SizeIs(2));
  const auto removed = *store_->history().RemovedStates(before, 10);
  ASSERT_THAT(removed, SizeIs(2));
  EXPECT_EQ(removed[0].check_id, a);
  EXPECT_NE(removed[0].agent, removed[1].agent);
}

TEST_P(SpecConformance, AppliersAtOnceLoseNoGeneration) {
  {
    std::vector<exec::Thread> appliers;
    for (int i = 0; i < 8; ++i) {
      appliers.emplace_back("applier", [&, i] {
        EXPECT_THAT(Apply({Document("Check", "api", std::to_string(i)),
                           Document("Check", "own-" + std::to_string(i))}),
                    SizeIs(2));
      });
    }
  }
  const std::vector<SpecRow> checks = *specs().Checks();
  ASSERT_THAT(checks, SizeIs(9));
  std::set<uint32_t> numbers;
  for (const SpecRow& row : checks) {
    numbers.insert(row.check_id);
    EXPECT_EQ(row.generation, row.document.metadata().name() == "api" ? 8U : 1U);
  }
  EXPECT_THAT(numbers, SizeIs(9));
}

TEST_P(SpecConformance, PagesStayPutWhileDocumentsCome) {
  for (const char* name : {"c", "a", "b"})
    Apply({Document("Check", name), Document("Receiver", name)});
  std::vector<std::string> seen;
  SpecKey after;
  for (bool more = true; more;) {
    const SpecPage page = *specs().List("", "", after, 2);
    for (const SpecRow& row : page.rows) {
      seen.push_back(row.document.kind() + "/" + row.document.metadata().name());
    }
    more = page.more;
    after = {page.rows.back().document.kind(), page.rows.back().document.metadata().name()};
    Apply({Document("Check", "a-" + std::to_string(seen.size()))});
  }
  EXPECT_THAT(
      seen, ElementsAre("Check/a", "Check/b", "Check/c", "Receiver/a", "Receiver/b", "Receiver/c"));
}

TEST_P(SpecConformance, ListsByKindAndName) {
  Apply({Document("Check", "a"), Document("Check", "b"), Document("Receiver", "a")});
  EXPECT_THAT(specs().List("Check", "", {}, 10)->rows, SizeIs(2));
  EXPECT_THAT(specs().List("", "a", {}, 10)->rows, SizeIs(2));
  const SpecPage one = *specs().List("Check", "b", {}, 10);
  ASSERT_THAT(one.rows, SizeIs(1));
  EXPECT_FALSE(one.more);
  EXPECT_EQ(one.rows[0].changed_by, "admin/ada");
  EXPECT_EQ(one.rows[0].changed_at, now_);
  EXPECT_THAT(*specs().Receivers(), SizeIs(1));
}

}  // namespace
}  // namespace muster::control
