#include "lib/sql/migrations.h"

#include <charconv>

namespace muster::sql {

StatusOr<size_t> MigrationsApplied(Transaction& transaction) {
  MUSTER_RETURN_IF_ERROR(transaction
                             .Execute("CREATE TABLE IF NOT EXISTS schema_migrations "
                                      "(version BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)")
                             .status());
  // A table of its own: databases of the first programs have the other one already.
  MUSTER_RETURN_IF_ERROR(transaction
                             .Execute("CREATE TABLE IF NOT EXISTS schema_oldest_program "
                                      "(version BIGINT PRIMARY KEY, oldest BIGINT NOT NULL)")
                             .status());
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      transaction.Query("SELECT coalesce(max(version), 0) FROM schema_migrations"));
  return static_cast<size_t>(rows[0].Int(0));
}

Status NoteMigration(Transaction& transaction, std::string_view migration, size_t version) {
  const auto number = static_cast<int64_t>(version);
  MUSTER_ASSIGN_OR_RETURN(const absl::Time now, transaction.Now());
  MUSTER_RETURN_IF_ERROR(
      transaction
          .Execute("INSERT INTO schema_migrations (version, applied_at) VALUES ($1, $2)",
                   {number, ToMicros(now)})
          .status());
  const auto oldest = static_cast<int64_t>(OldestProgram(migration, version));
  return transaction
      .Execute("INSERT INTO schema_oldest_program (version, oldest) VALUES ($1, $2)",
               {number, oldest})
      .status();
}

Status CheckNewer(Transaction& transaction, std::string_view database, size_t known,
                  size_t applied) {
  if (applied <= known) return OkStatus();
  const auto number = static_cast<int64_t>(known);
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      transaction.Query(
          "SELECT count(*) FROM schema_migrations m LEFT JOIN schema_oldest_program o "
          "ON o.version = m.version "
          "WHERE m.version > $1 AND coalesce(o.oldest, m.version) > $1",
          {number}));
  if (rows[0].Int(0) == 0) return OkStatus();
  return FailedPrecondition("{} has schema {}, this program knows {}: install the newer muster",
                            database, applied, known);
}

size_t OldestProgram(std::string_view migration, size_t version) {
  constexpr std::string_view kMark = "-- oldest program: ";
  size_t at = migration.find(kMark);
  // At the beginning of a line.
  if (at == std::string_view::npos || (at > 0 && migration[at - 1] != '\n')) return version;
  at += kMark.size();
  size_t oldest = version;
  const auto read =
      std::from_chars(migration.data() + at, migration.data() + migration.size(), oldest);
  return read.ec == std::errc() ? oldest : version;
}

}  // namespace muster::sql
