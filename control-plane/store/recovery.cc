#include "control-plane/store/recovery.h"

#include "control-plane/store/audit.h"
#include "control-plane/store/columns.h"

namespace muster::control {
namespace {

constexpr std::string_view kRecoveries = "recoveries";
// Of the last one, in microseconds: no counter, and not moved as they are.
constexpr std::string_view kRecoveredAt = "recovered_at";

// Beyond what can be given out in the time that an asynchronous standby lags.
constexpr int64_t kStride = int64_t{1} << 20;
// A check's number has 32 bits on the wire: room for 65,536 recoveries, and as many new checks in
// each.
constexpr int64_t kCheckStride = int64_t{1} << 16;

// A counter that had given out nothing yet may have done so in the meantime as well.
Status JumpAhead(sql::Transaction& t, std::string_view counter, int64_t stride) {
  return t
      .Execute(
          "INSERT INTO counters (name, value) VALUES ($1, $2) "
          "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value",
          {counter, stride})
      .status();
}

// Terms that began in the lost time are over, and their numbers spent. Which replicas run they say
// themselves: a row of an earlier life would make a replica think that another has its name.
Status ForgetLeaderAndReplicas(sql::Transaction& t) {
  MUSTER_RETURN_IF_ERROR(
      t.Execute("UPDATE lease SET epoch = epoch + $1, holder = '', incarnation = 0, until = 0",
                {kStride})
          .status());
  return t.Execute("DELETE FROM replicas").status();
}

}  // namespace

Status RecoverStore(sql::Transaction& t, const sql::EpochChange& change, absl::Time now) {
  for (const std::string_view counter : kCounters) {
    MUSTER_RETURN_IF_ERROR(JumpAhead(t, counter, counter == kCheckNumber ? kCheckStride : kStride));
  }
  MUSTER_RETURN_IF_ERROR(JumpAhead(t, kRecoveries, 1));
  MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO counters (name, value) VALUES ($1, $2) "
                                   "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                                   {kRecoveredAt, sql::ToMicros(now)})
                             .status());
  MUSTER_RETURN_IF_ERROR(
      t.Execute("UPDATE agents SET session_epoch = session_epoch + $1", {kStride}).status());
  MUSTER_RETURN_IF_ERROR(ForgetLeaderAndReplicas(t));
  return AppendAudit(t, {.actor = "control",
                         .action = "store.recovered",
                         .subject = change.after,
                         .detail = fmt::format("was {}; what was acknowledged since the copy was "
                                               "made may be missing, agents offer theirs again",
                                               change.before),
                         .at = now});
}

StatusOr<absl::Time> LostUntil(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t at, LastValue(t, kRecoveredAt));
  return at == 0 ? absl::InfinitePast() : absl::FromUnixMicros(at);
}

StatusOr<bool> WasRecovered(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t recoveries, LastValue(t, kRecoveries));
  return recoveries > 0;
}

}  // namespace muster::control
