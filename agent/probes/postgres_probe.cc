// PostgreSQL: connects, looks at one thing in a read-only transaction, and leaves.
#include <charconv>
#include <optional>

#include "agent/probes/pg_session.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

// What is not streaming may have more to come: then all the time since the last commit counts.
constexpr char kStandbySql[] =
    "select case when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() "
    "and exists (select from pg_stat_wal_receiver where status = 'streaming') then 0 "
    "else coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0) end";
constexpr char kPrimarySql[] =
    "select coalesce(max(extract(epoch from replay_lag)), 0), "
    "count(*) filter (where state = 'streaming') from pg_stat_replication";
constexpr char kConnectionsSql[] =
    "select count(*) filter (where backend_type = 'client backend'), "
    "current_setting('max_connections') from pg_stat_activity";
constexpr char kArchiverSql[] =
    "select current_setting('archive_mode'), archived_count, failed_count, "
    "last_failed_time is not null and (last_archived_time is null or last_failed_time > "
    "last_archived_time), "
    "coalesce(last_failed_wal, '') from pg_stat_archiver";
constexpr char kOldestSql[] =
    "select coalesce(extract(epoch from max(clock_timestamp() - xact_start)), 0), "
    "(array_agg(pid order by xact_start))[1] from pg_stat_activity "
    "where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid()";

std::optional<double> ReadNumber(std::string_view text) {
  text = Trim(text);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool Within(const v1::Range& range, double value) {
  return !(range.has_at_least() && value < range.at_least()) &&
         !(range.has_at_most() && value > range.at_most());
}

std::string RangeText(const v1::Range& range) {
  if (range.has_at_least() && range.has_at_most())
    return fmt::format("{} to {}", range.at_least(), range.at_most());
  return range.has_at_least() ? fmt::format("at least {}", range.at_least())
                              : fmt::format("at most {}", range.at_most());
}

class PostgresProbe final : public Probe {
 public:
  PostgresProbe(v1::PostgresProbe spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<std::unique_ptr<PgSession>> session = Open(context, report);
    if (!session.ok()) return report.Failed(session.status());
    const StatusOr<ProbeResult> result = Look(**session, context, report);
    return result.ok() ? *result : report.Failed(result.status());
  }

 private:
  StatusOr<std::unique_ptr<PgSession>> Open(const ProbeContext& context, Report& report) {
    if (!spec_.has_connection()) return PgSession::Open(spec_.dsn(), policy_, context, report);
    MUSTER_ASSIGN_OR_RETURN(const Secret dsn, policy_.ReadSecret(spec_.connection().secret()));
    return PgSession::Open(dsn.Reveal(), policy_, context, report);
  }

  StatusOr<ProbeResult> Look(PgSession& session, const ProbeContext& context, Report& report) {
    switch (spec_.look_case()) {
      case v1::PostgresProbe::kQuery: return Query(session, context, report);
      case v1::PostgresProbe::kReplication: return Replication(session, context, report);
      case v1::PostgresProbe::kConnections: return Connections(session, context, report);
      case v1::PostgresProbe::kArchiver: return Archiver(session, context, report);
      case v1::PostgresProbe::kOldestTransaction: return Oldest(session, context, report);
      case v1::PostgresProbe::kPing:
      case v1::PostgresProbe::LOOK_NOT_SET: break;
    }
    MUSTER_RETURN_IF_ERROR(Ask(session, "select 1", context, report).status());
    return report.Ok("PostgreSQL answers");
  }

  // The rows, also said in the transcript.
  static StatusOr<PgRows> Ask(PgSession& session, const std::string& sql,
                              const ProbeContext& context, Report& report) {
    report.Sent(sql);
    StatusOr<PgRows> rows = session.Query(sql, context);
    if (!rows.ok()) {
      report.Received(Message(rows.status()));
      return rows.status();
    }
    for (const auto& row : rows->rows) report.Received(fmt::format("{}", fmt::join(row, " | ")));
    return rows;
  }

  static StatusOr<PgRows> AskRow(PgSession& session, const std::string& sql,
                                 const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(PgRows rows, Ask(session, sql, context, report));
    if (rows.empty() || rows.rows[0].empty()) return Unavailable("the statement gave no row");
    return rows;
  }

  StatusOr<ProbeResult> Query(PgSession& session, const ProbeContext& context, Report& report) {
    const v1::PostgresQuery& query = spec_.query();
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows, AskRow(session, query.sql(), context, report));
    const std::string& answer = rows.at(0, 0);
    const std::optional<double> number = ReadNumber(answer);
    if (number) report.AddMetric("value", *number, "");
    if (!query.equals().empty() && answer != query.equals()) {
      return report.Critical(
          fmt::format("the answer is '{}', expected '{}'", Truncate(answer, 150), query.equals()));
    }
    if (!query.has_warning() && !query.has_critical())
      return report.Ok("the answer is as expected");
    if (!number)
      return report.Critical(fmt::format("the answer '{}' is not a number", Truncate(answer, 150)));
    if (query.has_critical() && !Within(query.critical(), *number)) {
      return report.Critical(
          fmt::format("the answer is {}, expected {}", answer, RangeText(query.critical())));
    }
    if (query.has_warning() && !Within(query.warning(), *number)) {
      return report.Warning(
          fmt::format("the answer is {}, expected {}", answer, RangeText(query.warning())));
    }
    return report.Ok("the answer is as expected");
  }

  StatusOr<ProbeResult> Replication(PgSession& session, const ProbeContext& context,
                                    Report& report) {
    const v1::PostgresReplication& spec = spec_.replication();
    MUSTER_ASSIGN_OR_RETURN(const PgRows role,
                            AskRow(session, "select pg_is_in_recovery()", context, report));
    const bool standby = role.at(0, 0) == "t";
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows,
                            AskRow(session, standby ? kStandbySql : kPrimarySql, context, report));
    const double lag = ReadNumber(rows.at(0, 0)).value_or(0);
    report.AddMetric("replay_lag", lag, "s");
    if (!standby) {
      const double standbys = ReadNumber(rows.at(0, 1)).value_or(0);
      report.AddMetric("standbys", standbys, "");
      if (standbys < spec.standbys_at_least()) {
        return report.Critical(fmt::format("{} standbys are streaming, expected at least {}",
                                           standbys, spec.standbys_at_least()));
      }
    }
    const std::string late = fmt::format("replay is {} behind", ShortDuration(absl::Seconds(lag)));
    if (spec.has_critical() && absl::Seconds(lag) >= wire::FromProto(spec.critical()))
      return report.Critical(late);
    if (spec.has_warning() && absl::Seconds(lag) >= wire::FromProto(spec.warning()))
      return report.Warning(late);
    return report.Ok(standby ? "the standby keeps up" : "the standbys keep up");
  }

  StatusOr<ProbeResult> Connections(PgSession& session, const ProbeContext& context,
                                    Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows, AskRow(session, kConnectionsSql, context, report));
    const double used = ReadNumber(rows.at(0, 0)).value_or(0);
    const double most = ReadNumber(rows.at(0, 1)).value_or(1);
    const double percent = 100 * used / most;
    report.AddMetric("connections", used, "");
    report.AddMetric("connections_percent", percent, "%");
    const v1::PostgresConnections& spec = spec_.connections();
    const std::string summary = fmt::format("{} of {} connections are in use", used, most);
    if (percent >= (spec.critical_percent() == 0 ? 95 : spec.critical_percent()))
      return report.Critical(summary);
    if (percent >= (spec.warning_percent() == 0 ? 80 : spec.warning_percent()))
      return report.Warning(summary);
    return report.Ok("connections are free");
  }

  static StatusOr<ProbeResult> Archiver(PgSession& session, const ProbeContext& context,
                                        Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows, AskRow(session, kArchiverSql, context, report));
    report.AddMetric("archived", ReadNumber(rows.at(0, 1)).value_or(0), "c");
    report.AddMetric("archive_failures", ReadNumber(rows.at(0, 2)).value_or(0), "c");
    if (rows.at(0, 0) == "off") return report.Critical("archiving is switched off (archive_mode)");
    if (rows.at(0, 3) != "t") return report.Ok("archiving works");
    return report.Critical(fmt::format("the last attempt to archive {} failed", rows.at(0, 4)));
  }

  StatusOr<ProbeResult> Oldest(PgSession& session, const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows, AskRow(session, kOldestSql, context, report));
    const double age = ReadNumber(rows.at(0, 0)).value_or(0);
    report.AddMetric("oldest_transaction", age, "s");
    const v1::PostgresOldestTransaction& spec = spec_.oldest_transaction();
    const absl::Duration warning =
        spec.has_warning() ? wire::FromProto(spec.warning()) : absl::Minutes(5);
    const absl::Duration critical =
        spec.has_critical() ? wire::FromProto(spec.critical()) : absl::Hours(1);
    const std::string summary = fmt::format("the oldest transaction is {} old (process {})",
                                            ShortDuration(absl::Seconds(age)), rows.at(0, 1));
    if (absl::Seconds(age) >= critical) return report.Critical(summary);
    if (absl::Seconds(age) >= warning) return report.Warning(summary);
    return report.Ok("no transaction is too old");
  }

  const v1::PostgresProbe spec_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakePostgresProbe(const v1::PostgresProbe& spec, const Policy& policy) {
  if (spec.dsn().empty() != spec.has_connection()) {
    return InvalidArgument("a postgres probe needs one of dsn and connection");
  }
  if (spec.has_connection()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.connection().secret()));
  return std::make_unique<PostgresProbe>(spec, policy);
}

}  // namespace muster::agent
