#include "control-plane/decide/witness.h"

#include <gtest/gtest.h>

#include <random>

#include "lib/base/hash.h"

namespace muster::control {
namespace {

// Hashes of entries 1, 2, 3 …, each covering the one before.
using Chain = std::vector<std::string>;

Chain Grow(Chain chain, size_t length, const std::string& what) {
  while (chain.size() < length) {
    const std::string before = chain.empty() ? "" : chain.back();
    chain.push_back(Sha256(fmt::format("{}{}{}", before, chain.size() + 1, what)));
  }
  return chain;
}

ChainPlace LookAt(const Chain& chain, uint64_t sequence) {
  ChainPlace place{chain.size(), chain.empty() ? "" : chain.back(), std::nullopt};
  if (sequence >= 1 && sequence <= chain.size()) place.hash = chain[sequence - 1];
  return place;
}

v1::Checkpoint At(const Chain& chain, uint64_t sequence) {
  v1::Checkpoint checkpoint;
  checkpoint.set_sequence(sequence);
  checkpoint.set_hash(chain.at(sequence - 1));
  return checkpoint;
}

Verdict CompareWith(const Chain& now, const Chain& then, uint64_t sequence) {
  return Compare(At(then, sequence), LookAt(now, sequence));
}

TEST(Witness, AgreesWithWhatOnlyGrew) {
  const Chain chain = Grow({}, 5, "x");
  EXPECT_EQ(CompareWith(Grow(chain, 9, "y"), chain, 5), Verdict{});
  EXPECT_EQ(CompareWith(chain, chain, 1), Verdict{});
}

TEST(Witness, NamesWhatIsMissing) {
  const Chain chain = Grow({}, 5, "x");
  EXPECT_EQ(CompareWith(Grow({}, 3, "x"), chain, 5), (Verdict{Testimony::kMissing, 4, 5}));
  EXPECT_EQ(CompareWith({}, chain, 1), (Verdict{Testimony::kMissing, 1, 1}));
  ChainPlace hole = LookAt(chain, 4);
  hole.hash.reset();
  EXPECT_EQ(Compare(At(chain, 4), hole), (Verdict{Testimony::kMissing, 4, 4}));
}

TEST(Witness, NamesWhatDiffersHoweverLongTheChainIsNow) {
  const Chain chain = Grow({}, 5, "x");
  const Chain cut_and_grown = Grow(Grow({}, 3, "x"), 9, "y");
  EXPECT_EQ(CompareWith(cut_and_grown, chain, 5), (Verdict{Testimony::kDiffers, 1, 5}));
  EXPECT_EQ(CompareWith(cut_and_grown, chain, 3), Verdict{});
}

TEST(Witness, OthersNarrowWhatDiffers) {
  const Verdict differs{Testimony::kDiffers, 1, 5};
  const auto narrowed = Narrow({{"a", 5, {}, differs},
                                {"b", 3, {}, {}},
                                {"c", 2, {}, {}},
                                {"d", 9, {}, {}},
                                {"e", 8, {}, {Testimony::kMissing, 7, 8}}});
  EXPECT_EQ(narrowed[0].verdict, (Verdict{Testimony::kDiffers, 4, 5}));
  EXPECT_EQ(narrowed[4].verdict, (Verdict{Testimony::kMissing, 7, 8}));
  EXPECT_EQ(Narrow({{"a", 5, {}, differs}})[0].verdict, differs);
}

TEST(Witness, SaysWhatItFound) {
  EXPECT_EQ(Text({Testimony::kMissing, 4, 5}), "entries 4 to 5 are missing");
  EXPECT_EQ(Text({Testimony::kMissing, 4, 4}), "entry 4 is missing");
  EXPECT_EQ(Text({Testimony::kDiffers, 1, 5}), "something in entries 1 to 5 was changed");
  EXPECT_EQ(Text({Testimony::kDiffers, 5, 5}), "entry 5 was changed");
}

// A law: whatever is cut and rewritten, every checkpoint from the cut on notices, and none before.
TEST(Witness, EveryCheckpointBehindTheCutNoticesAndNoneBefore) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const size_t length = 1 + random() % 40;
    const size_t kept = random() % length;
    const size_t grown = kept + random() % 60;
    const Chain before = Grow({}, length, "x");
    const Chain after = Grow(Grow({}, kept, "x"), grown, "y");
    for (uint64_t sequence = 1; sequence <= length; ++sequence) {
      const Verdict verdict = CompareWith(after, before, sequence);
      EXPECT_EQ(verdict.testimony == Testimony::kAgrees, sequence <= kept)
          << sequence << " of " << length << ", " << kept << " kept, " << grown << " now";
      if (verdict.testimony == Testimony::kAgrees) continue;
      EXPECT_LE(verdict.first, sequence);
      EXPECT_EQ(verdict.last, sequence);
      EXPECT_LE(verdict.first, grown + 1);
    }
  }
}

}  // namespace
}  // namespace muster::control
