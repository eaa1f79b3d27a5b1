// What Redis answers, as a value, and the bounded reader that makes it of bytes. RESP2, as
// hiredis's reader parses it.
//
// What a server sends is not trusted: size, number of elements and depth of a reply are bounded
// before memory is taken for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/base/secret.h"
#include "lib/base/status.h"

struct redisReader;

namespace muster::redis {

struct Nil {
  bool operator==(const Nil&) const = default;
};
// What Redis did not do, in its words: "WRONGTYPE Operation against a key holding …".
struct Refusal {
  std::string text;
  bool operator==(const Refusal&) const = default;
};

struct Reply {
  using Array = std::vector<Reply>;
  std::variant<Nil, int64_t, std::string, Refusal, Array> value;

  bool IsNil() const { return std::holds_alternative<Nil>(value); }
  // Null if it is something else.
  const int64_t* integer() const { return std::get_if<int64_t>(&value); }
  const std::string* text() const { return std::get_if<std::string>(&value); }
  const Refusal* refusal() const { return std::get_if<Refusal>(&value); }
  const Array* array() const { return std::get_if<Array>(&value); }
};

struct ReplyLimits {
  size_t bytes = 1 << 20;      // of one reply on the wire, about
  size_t elements = 16 << 10;  // of one reply, at all depths together
};
// Arrays within arrays; hiredis's own limit.
inline constexpr size_t kDeepestReply = 7;

// One thread.
class ReplyReader {
 public:
  explicit ReplyReader(ReplyLimits limits = {});
  ~ReplyReader();
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;

  // Bytes in the order in which they came, a few KiB at a time; then Next() until it has none.
  void Feed(std::string_view bytes);
  // The next whole reply; nothing while it wants more bytes. ResourceExhausted: over a limit.
  // Unavailable: that is not Redis. After an error it answers the same error for ever.
  StatusOr<std::optional<Reply>> Next();

 private:
  struct Builder;
  Status Fail(Status status);

  const ReplyLimits limits_;
  std::unique_ptr<Builder> builder_;
  redisReader* reader_;
  Status failed_;
};

using Argv = std::vector<std::string>;

// A command as Redis reads it. Secret, because AUTH is one. The argv must not be empty.
Secret FormatCommand(const std::vector<std::string_view>& argv);

}  // namespace muster::redis
