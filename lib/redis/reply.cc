#include "lib/redis/reply.h"

#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <openssl/crypto.h>

#include "lib/base/text.h"

namespace muster::redis {
namespace {

constexpr size_t kFraming = 64;

}  // namespace

// hiredis calls these while it reads. Each takes its place in the array it belongs to, or becomes
// the root; a null pointer ends the reading. They are called by C code, so nothing may be thrown.
struct ReplyReader::Builder {
  const ReplyLimits limits;
  size_t bytes = 0;
  size_t elements = 0;
  bool over_limit = false;

  static Builder& Of(const redisReadTask* task) { return *static_cast<Builder*>(task->privdata); }

  template <typename Value>
  static void* Put(const redisReadTask* task, Value&& value) noexcept {
    if (task->parent == nullptr) return new Reply{std::forward<Value>(value)};
    auto& array = std::get<Reply::Array>(static_cast<Reply*>(task->parent->obj)->value);
    Reply& place = array.at(static_cast<size_t>(task->idx));
    place.value = std::forward<Value>(value);
    return &place;
  }

  static void* PutText(const redisReadTask* task, char* text, size_t size) noexcept {
    Builder& builder = Of(task);
    builder.bytes += size;
    if (builder.bytes > builder.limits.bytes) return builder.Refuse();
    if (task->type == REDIS_REPLY_ERROR) return Put(task, Refusal{{text, size}});
    return Put(task, std::string(text, size));
  }

  static void* PutArray(const redisReadTask* task, int size) noexcept {
    Builder& builder = Of(task);
    builder.elements += static_cast<size_t>(size);
    if (builder.elements > builder.limits.elements) return builder.Refuse();
    return Put(task, Reply::Array(static_cast<size_t>(size)));
  }

  static void* PutInteger(const redisReadTask* task, long long value) noexcept {
    return Put(task, int64_t{value});
  }

  static void* PutNil(const redisReadTask* task) noexcept { return Put(task, Nil{}); }

  // Only roots are freed; what is within them goes with them.
  static void Free(void* root) noexcept { delete static_cast<Reply*>(root); }

  void* Refuse() {
    over_limit = true;
    return nullptr;
  }
};

ReplyReader::ReplyReader(ReplyLimits limits)
    : limits_(limits), builder_(new Builder{.limits = limits}) {
  static redisReplyObjectFunctions functions = {&Builder::PutText, &Builder::PutArray,
                                                &Builder::PutInteger, &Builder::PutNil,
                                                &Builder::Free};
  reader_ = redisReaderCreateWithFunctions(&functions);
  if (reader_ == nullptr) std::abort();
  reader_->privdata = builder_.get();
}

ReplyReader::~ReplyReader() { redisReaderFree(reader_); }

void ReplyReader::Feed(std::string_view bytes) {
  if (failed_.ok() && redisReaderFeed(reader_, bytes.data(), bytes.size()) != REDIS_OK)
    failed_ = Fail(ResourceExhausted("no memory for a reply of Redis"));
}

Status ReplyReader::Fail(Status status) {
  failed_ = std::move(status);
  return failed_;
}

StatusOr<std::optional<Reply>> ReplyReader::Next() {
  MUSTER_RETURN_IF_ERROR(failed_);
  const Status too_large = ResourceExhausted(
      "a reply of Redis is larger than {} bytes or {} elements", limits_.bytes, limits_.elements);
  void* raw = nullptr;
  if (redisReaderGetReply(reader_, &raw) != REDIS_OK) {
    if (builder_->over_limit) return Fail(too_large);
    return Fail(
        Unavailable("the answer is not that of a Redis server: {}", OneLine(reader_->errstr)));
  }
  if (raw == nullptr) {
    // A text that is just within the limit has its length before it and a line break behind.
    const size_t unread = reader_->len - reader_->pos;
    if (unread + builder_->bytes > limits_.bytes + kFraming) return Fail(too_large);
    return std::optional<Reply>();
  }
  const std::unique_ptr<Reply> root(static_cast<Reply*>(raw));
  builder_->bytes = 0;
  builder_->elements = 0;
  return std::optional<Reply>(std::move(*root));
}

Secret FormatCommand(const std::vector<std::string_view>& argv) {
  std::vector<const char*> words;
  std::vector<size_t> sizes;
  for (const std::string_view word : argv) {
    words.push_back(word.data() == nullptr ? "" : word.data());
    sizes.push_back(word.size());
  }
  char* bytes = nullptr;
  const int size =
      redisFormatCommandArgv(&bytes, static_cast<int>(argv.size()), words.data(), sizes.data());
  if (size < 0) std::abort();
  std::string command(bytes, static_cast<size_t>(size));
  OPENSSL_cleanse(bytes, static_cast<size_t>(size));
  redisFreeCommand(bytes);
  return Secret(std::move(command));
}

}  // namespace muster::redis
