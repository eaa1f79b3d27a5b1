#include "control-plane/rpc/manual_run.h"

#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr absl::Duration kPatience = absl::Hours(1);
constexpr size_t kLongestReason = 512;
constexpr size_t kLongestRequestId = 64;

}  // namespace

StatusOr<std::string> ReasonOf(const std::string& text) {
  if (text.size() > kLongestReason) {
    return InvalidArgument("reason: longer than {} bytes", kLongestReason);
  }
  return OneLine(text);
}

AuditNote NoteOf(const net::Identity& caller, std::string action, std::string subject,
                 std::string detail, absl::Time at) {
  return {.actor = net::Text(caller),
          .action = std::move(action),
          .subject = std::move(subject),
          .detail = std::move(detail),
          .at = at};
}

StatusOr<RunRow> ManualRun(const net::Identity& caller, Asked asked, absl::Time now) {
  if (asked.request_id.size() > kLongestRequestId) {
    return InvalidArgument("request_id: longer than {} bytes", kLongestRequestId);
  }
  const std::string who = net::Text(caller);
  const std::string what = asked.action.empty() ? "" : "/" + asked.action;
  // Of version 5 either way, as all ids of the plane's: version 4 is what hosts give to their own.
  const std::string asked_as = asked.request_id.empty() ? RandomUuid() : asked.request_id;
  // As it is stored, so that the answer says the same as every later one.
  const absl::Time at = absl::FromUnixMicros(absl::ToUnixMicros(now));
  return RunRow{.id = NameUuid(fmt::format("asked/{}/{}{}/{}", who, asked.job, what, asked_as)),
                .job = std::move(asked.job),
                .slot = at,
                .trigger = v1::RUN_TRIGGER_MANUAL,
                .asked_by = who,
                .spec = std::move(asked.spec),
                .action = std::move(asked.action),
                .reason = fmt::format("asked for by {}", who),
                .due_at = at,
                .start_by = at + kPatience};
}

}  // namespace muster::control
