// Redis: AUTH, PING and INFO, in RESP; hiredis reads the answers.
#include <charconv>
#include <map>

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/stream.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr size_t kAnswerBytes = 1 << 20;

using Facts = std::map<std::string, std::string, std::less<>>;

std::string Command(const std::vector<std::string_view>& words) {
  std::string text = fmt::format("*{}\r\n", words.size());
  for (const std::string_view word : words) text += fmt::format("${}\r\n{}\r\n", word.size(), word);
  return text;
}

Facts ParseInfo(std::string_view text) {
  Facts facts;
  for (const std::string_view line : Split(text, '\n')) {
    const size_t colon = line.find(':');
    if (line.starts_with('#') || colon == std::string_view::npos) continue;
    facts[std::string(line.substr(0, colon))] = std::string(Trim(line.substr(colon + 1)));
  }
  return facts;
}

std::string Fact(const Facts& facts, std::string_view name) {
  const auto found = facts.find(name);
  return found == facts.end() ? "" : found->second;
}

double FactNumber(const Facts& facts, std::string_view name) {
  const std::string text = Fact(facts, name);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

class RedisProbe final : public Probe {
 public:
  RedisProbe(v1::RedisProbe spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<Facts> facts = Look(context, report);
    return facts.ok() ? Judge(*facts, report) : report.Failed(facts.status());
  }

 private:
  StatusOr<Facts> Look(const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, Open(context, report));
    if (spec_.has_auth()) {
      report.Begin("auth", "authenticating to " + spec_.address());
      MUSTER_RETURN_IF_ERROR(Authenticate(*stream, context, report));
    }
    report.Begin("ping", "waiting for PONG of " + spec_.address());
    report.Sent("PING");
    MUSTER_ASSIGN_OR_RETURN(const std::string pong, Ask(*stream, Command({"PING"}), context));
    report.Received(pong);
    if (pong != "PONG")
      return Unavailable("PING was answered by '{}'", Truncate(OneLine(pong), 100));
    report.Begin("info", "waiting for INFO of " + spec_.address());
    report.Sent("INFO");
    MUSTER_ASSIGN_OR_RETURN(const std::string info, Ask(*stream, Command({"INFO"}), context));
    report.End();
    Facts facts = ParseInfo(info);
    Describe(facts, report);
    return facts;
  }

  StatusOr<std::unique_ptr<Stream>> Open(const ProbeContext& context, Report& report) {
    if (spec_.address().starts_with("unix:")) {
      const std::string path = spec_.address().substr(5);
      MUSTER_RETURN_IF_ERROR(policy_.AllowPath(path));
      report.Begin("connect", "connecting to " + path);
      return Stream::ConnectUnix(path, context);
    }
    MUSTER_ASSIGN_OR_RETURN(const HostPort target, ParseTarget(spec_.address()));
    MUSTER_ASSIGN_OR_RETURN(const Address address,
                            ResolveAllowed(target.host, target.port, policy_, context, report));
    report.Begin("connect", "connecting to " + address.Text());
    return Stream::Connect(address, context);
  }

  Status Authenticate(Stream& stream, const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const Secret secret, policy_.ReadSecret(spec_.auth().secret()));
    const std::string_view text = secret.Reveal();
    const size_t colon = text.find(':');
    std::string command = colon == std::string_view::npos
                              ? Command({"AUTH", text})
                              : Command({"AUTH", text.substr(0, colon), text.substr(colon + 1)});
    report.Sent("AUTH …");
    const StatusOr<std::string> answer = Ask(stream, command, context);
    WipeText(command);
    return answer.status();
  }

  // The text of one answer; an error of Redis is Unavailable.
  static StatusOr<std::string> Ask(Stream& stream, std::string_view command,
                                   const ProbeContext& context) {
    MUSTER_RETURN_IF_ERROR(stream.Write(command, context));
    const std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(redisReaderCreate(),
                                                                          &redisReaderFree);
    for (size_t size = 0; size < kAnswerBytes;) {
      MUSTER_ASSIGN_OR_RETURN(const std::string bytes, stream.Read(16384, context));
      if (bytes.empty()) return Unavailable("redis closed the connection");
      size += bytes.size();
      void* raw = nullptr;
      if (redisReaderFeed(reader.get(), bytes.data(), bytes.size()) != REDIS_OK ||
          redisReaderGetReply(reader.get(), &raw) != REDIS_OK) {
        return Unavailable("the answer is not that of a Redis server: {}", reader->errstr);
      }
      if (raw == nullptr) continue;
      const std::unique_ptr<void, decltype(&freeReplyObject)> owner(raw, &freeReplyObject);
      const auto* reply = static_cast<const redisReply*>(raw);
      const std::string text =
          reply->str == nullptr ? "" : std::string(reply->str, static_cast<size_t>(reply->len));
      if (reply->type == REDIS_REPLY_ERROR) return Unavailable("redis refuses: {}", OneLine(text));
      return text;
    }
    return Unavailable("redis answers more than 1 MiB");
  }

  static void Describe(const Facts& facts, Report& report) {
    for (const char* name :
         {"redis_version", "role", "master_link_status", "master_last_io_seconds_ago",
          "connected_slaves", "used_memory", "maxmemory", "loading"}) {
      if (!Fact(facts, name).empty())
        report.Received(fmt::format("{}:{}", name, Fact(facts, name)));
    }
    report.AddMetric("connected_clients", FactNumber(facts, "connected_clients"), "");
    report.AddMetric("used_memory", FactNumber(facts, "used_memory"), "B");
    report.AddMetric("replicas", FactNumber(facts, "connected_slaves"), "");
  }

  ProbeResult Judge(const Facts& facts, Report& report) {
    if (Fact(facts, "loading") == "1") return report.Critical("redis is still loading its data");
    const std::string role = Fact(facts, "role") == "slave" ? "replica" : Fact(facts, "role");
    if (!spec_.role().empty() && role != spec_.role()) {
      return report.Critical(fmt::format("redis is a {}, expected a {}", role, spec_.role()));
    }
    const std::string complaint =
        role == "replica" ? ReplicaComplaint(facts) : MasterComplaint(facts);
    return complaint.empty() ? JudgeMemory(facts, role, report) : report.Critical(complaint);
  }

  std::string ReplicaComplaint(const Facts& facts) const {
    if (Fact(facts, "master_link_status") != "up") {
      return fmt::format("the link to the master {}:{} is {}", Fact(facts, "master_host"),
                         Fact(facts, "master_port"), Fact(facts, "master_link_status"));
    }
    const absl::Duration silence = absl::Seconds(FactNumber(facts, "master_last_io_seconds_ago"));
    if (!spec_.has_master_silence_at_most()) return "";
    const absl::Duration limit = wire::FromProto(spec_.master_silence_at_most());
    if (silence <= limit) return "";
    return fmt::format("the master is silent for {}, more than {}", ShortDuration(silence),
                       DurationText(limit));
  }

  std::string MasterComplaint(const Facts& facts) const {
    const double replicas = FactNumber(facts, "connected_slaves");
    if (replicas >= spec_.replicas_at_least()) return "";
    return fmt::format("{} replicas are connected, expected at least {}", replicas,
                       spec_.replicas_at_least());
  }

  ProbeResult JudgeMemory(const Facts& facts, std::string_view role, Report& report) const {
    const double most = FactNumber(facts, "maxmemory");
    const double percent = most > 0 ? 100 * FactNumber(facts, "used_memory") / most : 0;
    if (most > 0) report.AddMetric("memory_used_percent", percent, "%");
    const std::string summary = fmt::format("{:.1f} % of maxmemory is in use", percent);
    if (spec_.memory_critical_percent() > 0 && percent >= spec_.memory_critical_percent()) {
      return report.Critical(summary);
    }
    if (spec_.memory_warning_percent() > 0 && percent >= spec_.memory_warning_percent()) {
      return report.Warning(summary);
    }
    return report.Ok(fmt::format("redis {} answers", role));
  }

  const v1::RedisProbe spec_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeRedisProbe(const v1::RedisProbe& spec, const Policy& policy) {
  if (spec.address().starts_with("unix:")) {
    MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.address().substr(5)));
  } else {
    MUSTER_RETURN_IF_ERROR(ParseTarget(spec.address()).status());
  }
  if (spec.has_auth()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.auth().secret()));
  return std::make_unique<RedisProbe>(spec, policy);
}

}  // namespace muster::agent
