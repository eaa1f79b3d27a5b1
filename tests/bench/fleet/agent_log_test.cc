#include "tests/bench/fleet/agent_log.h"

#include <gtest/gtest.h>

#include "lib/wire/columns.h"

namespace muster::bench {
namespace {

constexpr size_t kManyBytes = 1 << 20;

AgentLog Log(uint64_t records, size_t bound = 100) {
  AgentLog log("epoch", bound);
  for (uint64_t i = 1; i <= records; ++i) {
    log.Add({.observed_at_us = static_cast<int64_t>(i) * 1000, .check_id = 7});
  }
  return log;
}

TEST(AgentLog, ReadsFromTheCursorOn) {
  const AgentLog log = Log(10);
  const auto records = log.Read(4, 3, kManyBytes);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records.front().sequence(), 4u);
  EXPECT_EQ(records.back().sequence(), 6u);
  EXPECT_TRUE(log.Read(11, 3, kManyBytes).empty());
}

TEST(AgentLog, LetsGoOfWhatIsAcknowledged) {
  AgentLog log = Log(10);
  log.Acknowledge(4);
  EXPECT_EQ(log.entries().size(), 6u);
  EXPECT_EQ(log.bounds().first, 5u);
  EXPECT_EQ(log.bounds().last, 10u);
  EXPECT_EQ(log.Read(5, 1, kManyBytes).front().sequence(), 5u);
  log.Acknowledge(10);
  EXPECT_EQ(log.bounds().first, 0u);
  EXPECT_EQ(log.written(), 10u);
}

TEST(AgentLog, FoldsTheOldestIntoAGapAtItsBound) {
  AgentLog log = Log(10, 6);
  const auto folded = log.TakeFolded();
  ASSERT_TRUE(folded);
  EXPECT_EQ(folded->first, 1u);
  EXPECT_EQ(folded->last, 4u);
  EXPECT_FALSE(log.TakeFolded());
  const auto records = log.Read(3, 2, kManyBytes);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].gap().first(), 3u);
  EXPECT_EQ(records[0].gap().last(), 4u);
  EXPECT_EQ(records[0].gap().reason(), v1::Gap::REASON_SPOOL_FULL);
  EXPECT_EQ(records[1].sequence(), 5u);
  EXPECT_TRUE(wire::EncodeBatch(records).ok());
}

TEST(AgentLog, WhatIsAskedForAgainAfterItsAcknowledgementIsAGap) {
  AgentLog log = Log(10);
  log.Acknowledge(6);
  const auto records = log.Read(4, 10, kManyBytes);
  EXPECT_EQ(records.front().gap().first(), 4u);
  EXPECT_EQ(records.front().gap().last(), 6u);
  EXPECT_EQ(records.size(), 5u);
}

TEST(AgentLog, ANewEpochBeginsAtOneWithWhatIsLeft) {
  AgentLog log = Log(4);
  log.AddPlanTaken("hash", absl::FromUnixSeconds(1));
  log.Acknowledge(3);
  log.StartNewEpoch("next");
  EXPECT_EQ(log.bounds().first, 1u);
  EXPECT_EQ(log.bounds().last, 2u);
  const auto records = log.Read(1, 10, kManyBytes);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_TRUE(records[0].has_result());
  EXPECT_EQ(records[1].plan_taken().plan_hash(), "hash");
}

TEST(AgentLog, KeepsToTheBytesOfABatch) {
  AgentLog log("epoch", 100);
  for (int i = 0; i < 10; ++i) log.Add({.check_id = 1, .told = true});
  EXPECT_EQ(log.Read(1, 10, 1200).size(), 3u);
  EXPECT_EQ(log.Read(1, 10, 1).size(), 1u);
}

}  // namespace
}  // namespace muster::bench
