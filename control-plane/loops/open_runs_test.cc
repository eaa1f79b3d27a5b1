#include "control-plane/loops/open_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::control {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

RunRow Row(const std::string& id, const std::string& reason, RunPhase phase = RunPhase::kWaiting) {
  RunRow run;
  run.id = id;
  run.reason = reason;
  run.phase = phase;
  return run;
}

std::vector<std::string> Told(const OpenRuns& runs) {
  std::vector<std::string> told;
  for (const RunRow& run : runs.rows()) told.push_back(run.id + " " + run.reason);
  return told;
}

TEST(OpenRuns, KeepWhatWasSaidLastOfEach) {
  OpenRuns runs;
  runs.Merge({Row("a", "1"), Row("b", "1"), Row("a", "2")});
  runs.Merge({Row("b", "2"), Row("c", "1")});
  EXPECT_THAT(Told(runs), UnorderedElementsAre("a 2", "b 2", "c 1"));
}

TEST(OpenRuns, AreWithoutThoseThatAreOverWhereverTheyStood) {
  OpenRuns runs;
  runs.Replace({Row("a", "1"), Row("b", "1"), Row("c", "1"), Row("d", "1")});
  runs.Merge({Row("a", "2", RunPhase::kOver), Row("d", "2")});
  EXPECT_THAT(Told(runs), UnorderedElementsAre("b 1", "c 1", "d 2"));
  runs.Merge({Row("d", "3", RunPhase::kOver), Row("e", "1", RunPhase::kOver), Row("c", "3")});
  EXPECT_THAT(Told(runs), UnorderedElementsAre("b 1", "c 3"));
  runs.Merge({Row("c", "4", RunPhase::kOver), Row("b", "4", RunPhase::kOver)});
  EXPECT_THAT(Told(runs), IsEmpty());
}

TEST(OpenRuns, AreFoundAgainAfterTheyWereLent) {
  OpenRuns runs;
  runs.Merge({Row("a", "1"), Row("b", "1")});
  std::vector<RunRow> lent = runs.Lend();
  runs.TakeBack(std::move(lent));
  runs.Merge({Row("a", "2", RunPhase::kOver)});
  EXPECT_THAT(Told(runs), UnorderedElementsAre("b 1"));
  runs.Replace({});
  EXPECT_THAT(Told(runs), IsEmpty());
}

}  // namespace
}  // namespace muster::control
