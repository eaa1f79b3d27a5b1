#include "lib/redis/reply.h"

#include <gmock/gmock.h>

#include "lib/base/random.h"

namespace muster::redis {
namespace {

using namespace std::string_view_literals;

// As a person would write it down: 'text', 7, nil, !refusal, [a, b].
std::string Show(const Reply& reply) {
  if (reply.IsNil()) return "nil";
  if (reply.integer() != nullptr) return std::to_string(*reply.integer());
  if (reply.text() != nullptr) return "'" + *reply.text() + "'";
  if (reply.refusal() != nullptr) return "!" + reply.refusal()->text;
  std::string text = "[";
  for (const Reply& part : *reply.array()) text += (text.size() > 1 ? ", " : "") + Show(part);
  return text + "]";
}

// All replies of the bytes; then "…" if some are left, or the error's code.
std::string Read(std::string_view bytes, size_t chunk = 4096, ReplyLimits limits = {}) {
  ReplyReader reader(limits);
  std::string text;
  while (!bytes.empty()) {
    reader.Feed(bytes.substr(0, chunk));
    bytes.remove_prefix(std::min(chunk, bytes.size()));
    while (true) {
      const StatusOr<std::optional<Reply>> reply = reader.Next();
      if (!reply.ok()) return text + absl::StatusCodeToString(reply.status().code());
      if (!reply->has_value()) break;
      text += Show(**reply) + " ";
    }
  }
  return text;
}

TEST(Reply, IsWhatRedisSaid) {
  const std::string bytes =
      "+OK\r\n:-7\r\n$-1\r\n*-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n-ERR no\r\n*0\r\n"
      "*3\r\n$1\r\nx\r\n*2\r\n:1\r\n*1\r\n-E\r\n$-1\r\n";
  const std::string shown = "'OK' -7 nil nil '' 'a\r\nb' !ERR no [] ['x', [1, [!E]], nil] ";
  EXPECT_EQ(Read(bytes), shown);
  EXPECT_EQ(Read(bytes, 1), shown);
}

TEST(Reply, AnyCutOfTheBytesReadsTheSame) {
  const uint64_t seed = 20'261'123;
  const std::unique_ptr<Random> random = SeededRandom(seed);
  std::string bytes;
  for (int i = 0; i < 50; ++i) bytes += "*2\r\n$3\r\nabc\r\n*2\r\n:5\r\n$-1\r\n+x\r\n";
  const std::string whole = Read(bytes);
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(Read(bytes, 1 + random->Below(uint64_t{40})), whole) << "seed " << seed;
}

TEST(Reply, WhatIsNoReplyIsUnavailable) {
  for (const char* bytes : {"HTTP/1.1 400 Bad Request\r\n", "\x15\x03\x03", ":x\r\n", "$-2\r\n",
                            "*-2\r\n", "$99999999999999999999\r\n", "$x\r\n"}) {
    EXPECT_EQ(Read(bytes), "UNAVAILABLE") << bytes;
  }
}

TEST(Reply, ASpentReaderKeepsItsError) {
  ReplyReader reader;
  reader.Feed("x\r\n");
  EXPECT_FALSE(reader.Next().ok());
  reader.Feed("+OK\r\n");
  EXPECT_FALSE(reader.Next().ok());
}

TEST(Reply, HugeOnesAreRefusedBeforeTheyTakeMemory) {
  const ReplyLimits limits{.bytes = 100, .elements = 10};
  const auto read = [&](const std::string& bytes) { return Read(bytes, 50, limits); };
  EXPECT_EQ(read("*2000000000\r\n"), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(read("*2\r\n*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n*5\r\n"), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(read("$2000000000\r\n" + std::string(200, 'x')), "RESOURCE_EXHAUSTED");
  const std::string sixty = "$60\r\n" + std::string(60, 'x') + "\r\n";
  EXPECT_EQ(read("*2\r\n" + sixty + sixty), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(read("*2\r\n" + sixty + "$60000\r\n" + std::string(150, 'x')), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(read("+" + std::string(200, 'x')), "RESOURCE_EXHAUSTED");
  // Each reply has the whole limit.
  const std::string shown = "'" + std::string(60, 'x') + "' ";
  EXPECT_EQ(read(sixty + sixty), shown + shown);
}

TEST(Reply, DeepOnesAreRefused) {
  const auto nested = [](size_t depth) {
    std::string bytes;
    for (size_t i = 0; i < depth; ++i) bytes += "*1\r\n";
    return bytes + ":1\r\n";
  };
  EXPECT_EQ(Read(nested(kDeepestReply)), "[[[[[[[1]]]]]]] ");
  EXPECT_EQ(Read(nested(kDeepestReply + 2)), "UNAVAILABLE");
  EXPECT_EQ(Read(nested(100'000)), "UNAVAILABLE");
}

TEST(FormatCommand, CarriesAnyBytes) {
  EXPECT_EQ(FormatCommand({"SET", "k", "a\0\r\n"sv, ""}).Reveal(),
            "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\0\r\n\r\n$0\r\n\r\n"sv);
}

}  // namespace
}  // namespace muster::redis
