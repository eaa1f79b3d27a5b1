#include "agent/tasks/backup/redis.h"

#include <algorithm>
#include <charconv>

#include "agent/probes/report.h"
#include "agent/probes/resolve.h"
#include "agent/tasks/backup/programs.h"
#include "lib/base/secret.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr absl::Duration kOpenWithin = absl::Seconds(20);
// Redis sends a sign of life each second or so while it makes the snapshot.
constexpr absl::Duration kSilence = absl::Minutes(2);
constexpr absl::Duration kLook = absl::Milliseconds(200);
constexpr size_t kPiece = 256 << 10;
constexpr size_t kMostAnswer = 1 << 20;

std::string Command(const std::vector<std::string_view>& words) {
  std::string text = fmt::format("*{}\r\n", words.size());
  for (const std::string_view word : words) text += fmt::format("${}\r\n{}\r\n", word.size(), word);
  return text;
}

std::optional<uint64_t> ToNumber(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

uint64_t After(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) return 0;
  text.remove_prefix(at + name.size());
  return ToNumber(text.substr(0, text.find_first_not_of("0123456789"))).value_or(0);
}

ProbeContext Within(const TaskContext& context, absl::Duration within) {
  return {context.clock(), context.clock().Uptime() + within};
}

}  // namespace

// "db0:keys=3,expires=1,avg_ttl=0"
KeyCounts CountKeys(const RedisFacts& facts) {
  KeyCounts counts;
  for (const auto& [name, value] : facts) {
    if (!name.starts_with("db") || !value.starts_with("keys=")) continue;
    counts.keys += After(value, "keys=");
    counts.expiring += After(value, "expires=");
  }
  return counts;
}

StatusOr<std::unique_ptr<RedisLink>> RedisLink::Open(const std::string& address,
                                                     const std::string& auth, const Policy& policy,
                                                     TaskContext& context) {
  std::unique_ptr<RedisLink> link;
  if (address.starts_with("unix:")) {
    MUSTER_RETURN_IF_ERROR(policy.AllowPath(address.substr(5)));
    MUSTER_ASSIGN_OR_RETURN(link, OpenSocket(address.substr(5), context));
  } else {
    const ProbeContext within = Within(context, kOpenWithin);
    Report report(within);
    MUSTER_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
    MUSTER_ASSIGN_OR_RETURN(const Address at,
                            ResolveAllowed(target.host, target.port, policy, within, report));
    StatusOr<std::unique_ptr<Stream>> stream = Stream::Connect(at, within);
    if (absl::IsUnavailable(stream.status())) {
      return Unavailable("Redis cannot be reached: {}: start it, or correct the address",
                         Message(stream.status()));
    }
    MUSTER_RETURN_IF_ERROR(stream.status());
    link.reset(new RedisLink(*std::move(stream), context));
  }
  if (auth.empty()) return link;
  MUSTER_ASSIGN_OR_RETURN(const Secret secret, policy.ReadSecret(auth));
  MUSTER_RETURN_IF_ERROR(Annotate(link->SignIn(secret.Reveal()), "signing in to " + address));
  return link;
}

StatusOr<std::unique_ptr<RedisLink>> RedisLink::OpenSocket(const std::string& path,
                                                           TaskContext& context) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream,
                          Stream::ConnectUnix(path, Within(context, kOpenWithin)));
  return std::unique_ptr<RedisLink>(new RedisLink(std::move(stream), context));
}

Status RedisLink::SignIn(std::string_view secret) {
  const size_t colon = secret.find(':');
  std::string command = colon == std::string_view::npos
                            ? Command({"AUTH", secret})
                            : Command({"AUTH", secret.substr(0, colon), secret.substr(colon + 1)});
  const Status sent = Send(command);
  WipeText(command);
  MUSTER_RETURN_IF_ERROR(sent);
  return ReadLine().status();
}

Status RedisLink::Send(std::string_view bytes) {
  return stream_->Write(bytes, Within(context_, kOpenWithin));
}

Status RedisLink::ReadMore() {
  const absl::Duration until = context_.clock().Uptime() + kSilence;
  while (true) {
    MUSTER_RETURN_IF_ERROR(GoOn(context_));
    StatusOr<std::string> bytes = stream_->Read(kPiece, Within(context_, kLook));
    if (bytes.ok() && bytes->empty()) return Unavailable("Redis closed the connection");
    if (bytes.ok()) {
      buffer_ += *bytes;
      return OkStatus();
    }
    const bool late = context_.clock().Uptime() > until;
    if (!absl::IsDeadlineExceeded(bytes.status()) || late) return bytes.status();
  }
}

StatusOr<std::string> RedisLink::ReadLine() {
  size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    if (buffer_.size() > kMostAnswer) return DataLoss("the answer is not that of a Redis server");
    MUSTER_RETURN_IF_ERROR(ReadMore());
  }
  std::string line(Trim(buffer_.substr(0, end)));
  buffer_.erase(0, end + 1);
  if (line.starts_with('-')) return Unavailable("Redis refuses: {}", OneLine(line.substr(1)));
  return line;
}

StatusOr<std::string> RedisLink::Ask(const std::vector<std::string_view>& words) {
  MUSTER_RETURN_IF_ERROR(Send(Command(words)));
  const StatusOr<std::string> read = ReadLine();
  MUSTER_RETURN_IF_ERROR(read.status());
  const std::string_view line = *read;
  if (line.starts_with('+') || line.starts_with(':')) return std::string(line.substr(1));
  const std::optional<uint64_t> size =
      line.starts_with('$') ? ToNumber(line.substr(1)) : std::nullopt;
  if (!size || *size > kMostAnswer) return DataLoss("the answer is not that of a Redis server");
  while (buffer_.size() < *size + 2) MUSTER_RETURN_IF_ERROR(ReadMore());
  std::string text = buffer_.substr(0, *size);
  buffer_.erase(0, *size + 2);
  return text;
}

StatusOr<RedisFacts> RedisLink::Info() {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, Ask({"INFO"}));
  RedisFacts facts;
  for (const std::string_view line : Split(text, '\n')) {
    const size_t colon = line.find(':');
    if (line.starts_with('#') || colon == std::string_view::npos) continue;
    facts[std::string(line.substr(0, colon))] = std::string(Trim(line.substr(colon + 1)));
  }
  return facts;
}

// "\n" each second while the snapshot is made, then "$LENGTH\r\n" and the snapshot.
Status RedisLink::Sync(const std::function<Status(std::string_view, uint64_t)>& take) {
  MUSTER_RETURN_IF_ERROR(Send(Command({"SYNC"})));
  std::string line;
  while (line.empty()) {
    MUSTER_ASSIGN_OR_RETURN(line, ReadLine());
  }
  const std::optional<uint64_t> total =
      line.starts_with('$') ? ToNumber(std::string_view(line).substr(1)) : std::nullopt;
  if (!total) return DataLoss("Redis does not send a snapshot, but {}", OneLine(line));
  uint64_t left = *total;
  while (true) {
    const size_t piece = std::min<uint64_t>(left, buffer_.size());
    MUSTER_RETURN_IF_ERROR(take(std::string_view(buffer_).substr(0, piece), *total));
    left -= piece;
    if (left == 0) return OkStatus();
    buffer_.clear();
    const Status more = ReadMore();
    if (absl::IsAborted(more)) return more;
    if (!more.ok()) {
      return DataLoss("Redis's snapshot breaks off {} bytes before its end: {}", left,
                      Message(more));
    }
  }
}

}  // namespace muster::agent::backup
