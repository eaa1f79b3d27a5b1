#include "lib/spec/rules.h"

#include <google/protobuf/duration.pb.h>
#include <re2/re2.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include <absl/base/const_init.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/text.h"
#include "lib/spec/fields.h"
#include "lib/spec/job_rules.h"

namespace muster::spec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kLongestLabel = 63;
constexpr size_t kLongestText = 64 * 1024;
constexpr char kNamelessHeader[] = "holds a header without a name; write NAME: VALUE";

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return proto;
}

bool IsSet(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  return field.is_repeated() ? reflection.FieldSize(message, &field) > 0
                             : reflection.HasField(message, &field);
}

bool IsBlank(const FieldDescriptor& field, const std::string& text) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_STRING && Trim(text).empty();
}

void FillMessage(Message& message);

// A message that is present, or each of a list.
void FillWithin(Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  if (!field.is_repeated()) {
    if (IsSet(message, field)) FillMessage(*reflection.MutableMessage(&message, &field));
    return;
  }
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i)
    FillMessage(*reflection.MutableRepeatedMessage(&message, &field, i));
}

void FillMessage(Message& message) {
  const auto& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (IsSubMessage(field)) {
      FillWithin(message, field);
    } else if (const std::string& fallback = RuleOf(field).fallback();
               !fallback.empty() && !IsSet(message, field)) {
      (void)SetFromText(message, field, fallback);
    }
  }
}

// Of the protocol's own patterns, of which there are a few: each is compiled once.
const RE2& Compiled(const std::string& pattern) {
  static absl::Mutex mutex(absl::kConstInit);
  static auto& compiled = *new std::map<std::string, std::unique_ptr<const RE2>>;
  absl::MutexLock lock(&mutex);
  std::unique_ptr<const RE2>& known = compiled[pattern];
  if (known == nullptr) known = std::make_unique<const RE2>(pattern);
  return *known;
}

// The checks of one message and those within it.
class Checker {
 public:
  explicit Checker(const Complain& complain) : complain_(complain) {}

  void Check(const Message& message, const std::string& path) {
    const auto& descriptor = *message.GetDescriptor();
    for (int i = 0; i < descriptor.oneof_decl_count(); ++i)
      CheckOneof(message, *descriptor.oneof_decl(i), path);
    for (int i = 0; i < descriptor.field_count(); ++i) {
      const FieldDescriptor& field = *descriptor.field(i);
      const std::string here = path.empty() ? field.json_name() : path + "." + field.json_name();
      const bool set = IsSet(message, field);
      if (!set && RuleOf(field).required()) complain_(here, "is required");
      if (set) CheckField(message, field, here);
    }
    CheckThresholds(message, path);
  }

 private:
  void CheckOneof(const Message& message, const google::protobuf::OneofDescriptor& oneof,
                  const std::string& path) {
    if (oneof.is_synthetic() || !oneof.options().GetExtension(v1::exactly_one)) return;
    if (message.GetReflection()->HasOneof(message, &oneof)) return;
    std::string names;
    for (int i = 0; i < oneof.field_count(); ++i)
      names += (names.empty() ? "" : ", ") + oneof.field(i)->json_name();
    complain_(path, "needs one of: " + names);
  }

  void CheckField(const Message& message, const FieldDescriptor& field, const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    const v1::FieldRule& rule = RuleOf(field);
    if (field.is_map()) return CheckMap(message, field, path);
    if (field.is_repeated()) {
      const int size = reflection.FieldSize(message, &field);
      if (rule.max_size() > 0 && static_cast<uint32_t>(size) > rule.max_size()) {
        complain_(path, fmt::format("has {} entries; at most {} are taken", size, rule.max_size()));
      }
      for (int i = 0; i < size; ++i)
        CheckElement(message, field, i, fmt::format("{}[{}]", path, i));
      return;
    }
    if (IsSubMessage(field)) return Check(reflection.GetMessage(message, &field), path);
    if (IsDuration(field)) return CheckDuration(message, field, path);
    CheckValue(message, field, -1, path);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      const size_t most = rule.max_size() > 0 ? rule.max_size() : kLongestText;
      if (reflection.GetString(message, &field).size() > most) {
        complain_(path, fmt::format("is longer than {} bytes", most));
      }
    }
  }

  void CheckElement(const Message& message, const FieldDescriptor& field, int index,
                    const std::string& path) {
    if (!IsSubMessage(field)) return CheckValue(message, field, index, path);
    Check(message.GetReflection()->GetRepeatedMessage(message, &field, index), path);
  }

  void CheckValue(const Message& message, const FieldDescriptor& field, int index,
                  const std::string& path) {
    const std::string text = ToText(message, field, index);
    const v1::FieldRule& rule = RuleOf(field);
    const bool needed = rule.not_empty() || (rule.required() && !field.is_repeated());
    if (needed && IsBlank(field, text)) {
      return complain_(path, "is empty; write a value");
    }
    if (!rule.pattern().empty() && !RE2::FullMatch(text, Compiled(rule.pattern()))) {
      complain_(path, fmt::format("\"{}\" is not {}", text,
                                  rule.meaning().empty() ? "of the form " + rule.pattern()
                                                         : rule.meaning()));
    } else if (!rule.pattern().empty()) {
      CheckPort(text, path);
    }
    if (!rule.bounded()) return;
    double value = 0;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      value = message.GetReflection()->GetDouble(message, &field);
    } else {
      value = std::strtod(text.c_str(), nullptr);
    }
    if (value < rule.at_least() || value > rule.at_most()) {
      complain_(path, fmt::format("{} is out of bounds: {} to {}", text, rule.at_least(),
                                  rule.at_most()));
    }
  }

  // Of HOST:PORT and of a URL.
  void CheckPort(const std::string& text, const std::string& path) {
    static const RE2 with_port(
        R"((?:https?://(?:[^/?#@\s]*@)?)?(?:\[[^\]]*\]|[^/?#:]*):([0-9]{1,5})(?:[/?#].*)?)");
    int port = 0;
    if (!RE2::FullMatch(text, with_port, &port) || (port >= 1 && port <= 65535)) return;
    complain_(path, fmt::format("port {} is out of bounds: 1 to 65535", port));
  }

  // Of each pair of bounds (warning_percent and critical_percent), where more is worse: a warning
  // beyond the critical one would never be seen. 0 does not look.
  void CheckThresholds(const Message& message, const std::string& path) {
    const auto& type = *message.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& warning = *type.field(i);
      if (!warning.name().starts_with("warning") || !IsThreshold(warning)) continue;
      const FieldDescriptor* critical =
          type.FindFieldByName("critical" + warning.name().substr(std::strlen("warning")));
      if (critical == nullptr || !IsThreshold(*critical)) continue;
      const double low = Threshold(message, warning);
      const double high = Threshold(message, *critical);
      if (low <= 0 || high <= 0 || low <= high) continue;
      complain_(path + "." + warning.json_name(),
                fmt::format("{} is more than {} ({}), so it would never be WARNING",
                            ThresholdText(message, warning), critical->json_name(),
                            ThresholdText(message, *critical)));
    }
  }

  static bool IsThreshold(const FieldDescriptor& field) {
    return !field.is_repeated() && (IsDuration(field) || !IsSubMessage(field));
  }

  static double Threshold(const Message& message, const FieldDescriptor& field) {
    if (IsDuration(field)) return absl::ToDoubleSeconds(DurationOf(message, field));
    return std::strtod(ToText(message, field, -1).c_str(), nullptr);
  }

  static std::string ThresholdText(const Message& message, const FieldDescriptor& field) {
    return IsDuration(field) ? DurationText(DurationOf(message, field))
                             : ToText(message, field, -1);
  }

  static absl::Duration DurationOf(const Message& message, const FieldDescriptor& field) {
    return ToAbsl(static_cast<const google::protobuf::Duration&>(
        message.GetReflection()->GetMessage(message, &field)));
  }

  void CheckDuration(const Message& message, const FieldDescriptor& field,
                     const std::string& path) {
    const v1::FieldRule& rule = RuleOf(field);
    const absl::Duration value = DurationOf(message, field);
    if (value < absl::ZeroDuration() || (rule.has_shortest() && value < ToAbsl(rule.shortest()))) {
      complain_(path, fmt::format("{} is too short; the least is {}", DurationText(value),
                                  DurationText(ToAbsl(rule.shortest()))));
    }
    if (rule.has_longest() && value > ToAbsl(rule.longest())) {
      complain_(path, fmt::format("{} is too long; the most is {}", DurationText(value),
                                  DurationText(ToAbsl(rule.longest()))));
    }
  }

  void CheckMap(const Message& message, const FieldDescriptor& field, const std::string& path) {
    const int size = message.GetReflection()->FieldSize(message, &field);
    const uint32_t most = RuleOf(field).max_size() > 0 ? RuleOf(field).max_size() : 64;
    if (static_cast<uint32_t>(size) > most) {
      complain_(path, fmt::format("has {} entries; at most {} are taken", size, most));
    }
  }

  const Complain& complain_;
};

void CheckPattern(const std::string& pattern, const std::string& path, const Complain& complain) {
  if (pattern.empty()) return;
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 compiled(pattern, options);
  if (!compiled.ok())
    complain(path, fmt::format("is not a regular expression: {}", compiled.error()));
}

void CheckLabels(const google::protobuf::Map<std::string, std::string>& labels,
                 const std::string& path, const Complain& complain) {
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > kLongestLabel || value.size() > kLongestLabel) {
      complain(path + "." + key, fmt::format("keys and values have 1 to {} bytes", kLongestLabel));
    }
  }
}

void CheckHeaders(const google::protobuf::Map<std::string, std::string>& headers,
                  const std::string& path, const Complain& complain) {
  for (const auto& [name, value] : headers) {
    if (Trim(name).empty()) complain(path, kNamelessHeader);
    if ((name + value).find_first_of("\r\n") != std::string::npos ||
        name.find(':') != std::string::npos) {
      complain(path + "." + name, "holds a line break or a colon in its name");
    }
  }
}

void CheckHttp(const v1::HttpProbe& http, const Complain& complain) {
  const std::string path = "spec.probe.http";
  CheckPattern(http.expect().body(), path + ".expect.body", complain);
  CheckPattern(http.expect().body_not(), path + ".expect.bodyNot", complain);
  for (const auto& [name, pattern] : http.expect().headers()) {
    if (Trim(name).empty()) complain(path + ".expect.headers", kNamelessHeader);
    CheckPattern(pattern, path + ".expect.headers." + name, complain);
  }
  CheckHeaders(http.headers(), path + ".headers", complain);
  for (const auto& [pointer, value] : http.expect().json()) {
    if (!pointer.empty() && pointer[0] != '/') {
      complain(path + ".expect.json." + pointer, "is not a JSON pointer; it begins with /");
    }
  }
}

void CheckRange(const v1::Range& range, const std::string& path, const Complain& complain) {
  if (!range.has_at_least() && !range.has_at_most()) {
    complain(path, "needs atLeast, atMost or both");
  } else if (range.has_at_least() && range.has_at_most() && range.at_least() > range.at_most()) {
    complain(path, fmt::format("no answer can be in it: atLeast {} is more than atMost {}",
                               range.at_least(), range.at_most()));
  }
}

void CheckPostgres(const v1::PostgresProbe& postgres, const Complain& complain) {
  const std::string path = "spec.probe.postgres";
  const v1::PostgresQuery& query = postgres.query();
  if (query.has_warning()) CheckRange(query.warning(), path + ".query.warning", complain);
  if (query.has_critical()) CheckRange(query.critical(), path + ".query.critical", complain);
  if (Trim(postgres.dsn()).empty() == !postgres.has_connection()) {
    complain(path, "needs exactly one of dsn and connection");
  }
  const bool uri_with_password = RE2::PartialMatch(postgres.dsn(), "://[^/@:]*:[^/@]+@");
  if (uri_with_password || RE2::PartialMatch(postgres.dsn(), "(^|[\\s?&])password\\s*=")) {
    complain(path + ".dsn",
             "must not hold a password; put the whole string in a file of the host and write "
             "connection: {secret: \"file:/etc/muster/secrets/NAME\"}");
  }
}

void CheckCheck(const v1::CheckSpec& check, const Complain& complain) {
  CheckLabels(check.agents(), "spec.agents", complain);
  if (ToAbsl(check.timeout()) > ToAbsl(check.every())) {
    complain("spec.timeout",
             fmt::format("{} is longer than every ({})", DurationText(ToAbsl(check.timeout())),
                         DurationText(ToAbsl(check.every()))));
  }
  const v1::Probe& probe = check.probe();
  if (probe.has_http()) CheckHttp(probe.http(), complain);
  if (probe.has_tcp()) CheckPattern(probe.tcp().expect(), "spec.probe.tcp.expect", complain);
  if (probe.has_postgres()) CheckPostgres(probe.postgres(), complain);
  if (probe.has_plugin() && probe.plugin().command_size() > 0 &&
      !probe.plugin().command(0).starts_with("/")) {
    complain("spec.probe.plugin.command[0]", "is not an absolute path");
  }
}

template <typename Receiver>
void CheckUrl(const Receiver& receiver, const std::string& path, const Complain& complain) {
  if (receiver.url().empty() == !receiver.has_url_from())
    complain(path, "needs exactly one of url and urlFrom");
}

void CheckReceiver(const v1::ReceiverSpec& receiver, const Complain& complain) {
  if (receiver.has_webhook()) {
    CheckUrl(receiver.webhook(), "spec.webhook", complain);
    CheckHeaders(receiver.webhook().headers(), "spec.webhook.headers", complain);
  }
  if (receiver.has_slack()) CheckUrl(receiver.slack(), "spec.slack", complain);
  if (receiver.has_email() && receiver.email().has_password() &&
      receiver.email().username().empty()) {
    complain("spec.email.username", "is required where there is a password");
  }
}

}  // namespace

void FillDefaults(v1::Document& document) {
  if (document.has_check()) {
    v1::CheckSpec& check = *document.mutable_check();
    check.mutable_confirm();
    if (check.probe().has_postgres() &&
        check.probe().postgres().look_case() == v1::PostgresProbe::LOOK_NOT_SET) {
      check.mutable_probe()->mutable_postgres()->mutable_ping();
    }
    FillMessage(check);
    if (!check.has_timeout()) {
      *check.mutable_timeout() = ToProto(std::min(absl::Seconds(10), ToAbsl(check.every())));
    }
  }
  if (document.has_receiver()) FillMessage(*document.mutable_receiver());
  if (document.has_job()) {
    document.mutable_job()->mutable_retry();
    if (document.job().has_backup()) {
      document.mutable_job()->mutable_backup()->mutable_keep();
      document.mutable_job()->mutable_backup()->mutable_verify();
    }
    FillMessage(*document.mutable_job());
  }
}

void CheckRules(const v1::Document& document, const Complain& complain) {
  Checker checker(complain);
  if (document.has_metadata()) {
    checker.Check(document.metadata(), "metadata");
  } else {
    complain("metadata", "is required");
  }
  CheckLabels(document.metadata().labels(), "metadata.labels", complain);
  if (document.has_check()) {
    checker.Check(document.check(), "spec");
    CheckCheck(document.check(), complain);
  } else if (document.has_receiver()) {
    checker.Check(document.receiver(), "spec");
    CheckReceiver(document.receiver(), complain);
  } else if (document.has_job()) {
    checker.Check(document.job(), "spec");
    CheckLabels(document.job().agents(), "spec.agents", complain);
    CheckJob(document.job(), complain);
  } else {
    complain("spec", "is required");
  }
}

}  // namespace muster::spec
