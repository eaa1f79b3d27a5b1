#include "tests/bench/fleet/journal.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "lib/testing/servers.h"

namespace muster::bench {
namespace {

constexpr auto kOk = v1::CHECK_STATUS_OK;

v1::Confirm Failures(uint32_t failures) {
  v1::Confirm confirm;
  confirm.set_failures(failures);
  return confirm;
}

class JournalTest : public ::testing::Test {
 protected:
  // A log with two records, of which one is acknowledged.
  void Run(const std::string& agent, const std::string& epoch) {
    const auto journal = *Journal::Open(path_);
    journal->Log(0, agent, epoch);
    journal->Confirm(7, Failures(2));
    journal->Record(0, {1, 7, kOk, 100});
    journal->Record(0, {2, 7, kOk, 200});
    journal->Acknowledged(0, 1);
    ASSERT_TRUE(journal->Flush().ok());
  }

  testing::TempFolder folder_;
  const std::string path_ = folder_.File("journal");
};

TEST_F(JournalTest, ReadsBackWhatWasWritten) {
  Run("a", "e1");
  const JournalContents read = *ReadJournal(path_);
  ASSERT_EQ(read.agents.at("a").size(), 1u);
  const JournalledLog& log = read.agents.at("a").front();
  EXPECT_EQ(log.epoch, "e1");
  EXPECT_EQ(log.acknowledged, 1u);
  ASSERT_EQ(log.records.size(), 2u);
  EXPECT_EQ(log.records[1], (Journalled{2, 7, kOk, 200}));
  EXPECT_EQ(read.confirm.at(7).failures(), 2u);
}

TEST_F(JournalTest, ALaterRunIsAppended) {
  Run("a", "e1");
  Run("a", "e2");
  const JournalContents read = *ReadJournal(path_);
  ASSERT_EQ(read.agents.at("a").size(), 2u);
  EXPECT_EQ(read.agents.at("a")[1].epoch, "e2");
}

TEST_F(JournalTest, AFrameThatWasCutShortIsTheEndAndIsCutOffByTheNextRun) {
  Run("a", "e1");
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 5);
  EXPECT_EQ(ReadJournal(path_)->agents.at("a").front().acknowledged, 0u);
  Run("a", "e2");
  EXPECT_EQ(ReadJournal(path_)->agents.at("a")[1].acknowledged, 1u);
}

TEST_F(JournalTest, SaysWhichChecksWereConfirmedOtherwise) {
  Run("a", "e1");
  (*Journal::Open(path_))->Confirm(7, Failures(3));
  EXPECT_EQ(ReadJournal(path_)->changed, std::vector<uint32_t>{7});
}

TEST_F(JournalTest, WhatIsNoJournalIsRefused) {
  std::FILE* const file = std::fopen(path_.c_str(), "w");
  std::fputs("something else altogether, and long enough\n", file);
  std::fclose(file);
  EXPECT_FALSE(ReadJournal(path_).ok());
}

}  // namespace
}  // namespace muster::bench
