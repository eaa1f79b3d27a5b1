#include "lib/sql/postgres_days.h"

#include <map>

namespace muster::sql {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);

absl::Time DayOf(absl::Time at) {
  return absl::UnixEpoch() + absl::Floor(at - absl::UnixEpoch(), kDay);
}

std::string NameOf(std::string_view table, absl::Time day) {
  return fmt::format("{}_{}", table, absl::FormatTime("%E4Y%m%d", day, absl::UTCTimeZone()));
}

// The end of a day's partition, told from its name; InfiniteFuture for another name.
absl::Time EndOf(std::string_view table, const std::string& name) {
  absl::Time day;
  std::string ignored;
  if (name.size() != table.size() + 9 || !absl::ParseTime("%E4Y%m%d", name.substr(table.size() + 1),
                                                          absl::UTCTimeZone(), &day, &ignored))
    return absl::InfiniteFuture();
  return day + kDay;
}

// The column of the partition key; nullopt for a table in one piece.
StatusOr<std::optional<std::string>> KeyOf(Transaction& t, std::string_view table) {
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      t.Query("SELECT CAST(a.attname AS text) FROM pg_partitioned_table p JOIN pg_attribute a "
              "ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] "
              "WHERE p.partrelid = to_regclass($1)",
              {table}));
  if (rows.empty()) return std::nullopt;
  return rows[0].Text(0);
}

}  // namespace

StatusOr<PostgresDays> LookAtPostgresDays(Transaction& t, std::string_view table, absl::Time from,
                                          absl::Time until) {
  PostgresDays found;
  MUSTER_ASSIGN_OR_RETURN(const std::optional<std::string> key, KeyOf(t, table));
  if (!key) return found;
  std::map<std::string, absl::Time> wanted;
  for (absl::Time day = DayOf(from); day <= until; day += kDay) wanted[NameOf(table, day)] = day;
  std::vector<Parameter> names;
  for (const auto& [name, day] : wanted) names.emplace_back(std::string_view(name));
  MUSTER_ASSIGN_OR_RETURN(const Rows missing,
                          t.QueryRows("SELECT v.column1 FROM (", {1, names},
                                      ") AS v WHERE to_regclass(v.column1) IS NULL ORDER BY 1"));
  for (const Row& row : missing) found.missing.push_back(wanted.at(row.Text(0)));
  MUSTER_ASSIGN_OR_RETURN(
      const Rows outside,
      t.Query(fmt::format("SELECT count(*) FROM (SELECT 1 FROM {}_other LIMIT 1000) o", table)));
  found.outside = outside[0].Int(0);
  return found;
}

Status MakePostgresDay(Transaction& t, std::string_view table, absl::Time at) {
  const absl::Time day = DayOf(at);
  const std::string name = NameOf(table, day);
  MUSTER_ASSIGN_OR_RETURN(const Rows there,
                          t.Query("SELECT to_regclass($1) IS NOT NULL", {std::string_view(name)}));
  if (there[0].Int(0) != 0) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::optional<std::string> key, KeyOf(t, table));
  if (!key) return OkStatus();
  const int64_t from = ToMicros(day);
  const int64_t until = ToMicros(day + kDay);
  for (const std::string& step :
       {fmt::format("CREATE TABLE {} (LIKE {} INCLUDING ALL)", name, table),
        fmt::format("WITH moved AS (DELETE FROM {0}_other WHERE {1} >= {2} AND {1} < {3} "
                    "RETURNING *) INSERT INTO {4} SELECT * FROM moved",
                    table, *key, from, until, name),
        fmt::format("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})", table, name,
                    from, until)}) {
    MUSTER_RETURN_IF_ERROR(t.Execute(step).status());
  }
  return OkStatus();
}

StatusOr<std::optional<std::vector<std::string>>> PostgresDaysBefore(Transaction& t,
                                                                     std::string_view table,
                                                                     absl::Time cutoff) {
  MUSTER_ASSIGN_OR_RETURN(const std::optional<std::string> key, KeyOf(t, table));
  if (!key) return std::nullopt;
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      t.Query("SELECT CAST(c.relname AS text) FROM pg_inherits i JOIN pg_class c "
              "ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1) ORDER BY c.relname",
              {table}));
  std::vector<std::string> days;
  for (const Row& row : rows) {
    if (EndOf(table, row.Text(0)) <= cutoff) days.push_back(row.Text(0));
  }
  return std::optional(std::move(days));
}

}  // namespace muster::sql
