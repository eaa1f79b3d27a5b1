#include "control-plane/store/store.h"

#include "control-plane/store/recovery.h"
#include "control-plane/store/schema.h"
#include "lib/base/clock.h"

namespace muster::control {
namespace {

// No error repeats the URL, which may hold a password.
StatusOr<std::unique_ptr<sql::Database>> OpenDatabase(const std::string& url) {
  constexpr std::string_view kSqlite = "sqlite:";
  if (url.starts_with("postgresql://") || url.starts_with("postgres://"))
    return sql::OpenPostgres(url);
  if (url.starts_with(kSqlite) && url.size() > kSqlite.size())
    return sql::OpenSqlite(url.substr(kSqlite.size()));
  return InvalidArgument(
      "a store is written sqlite:PATH or postgresql://USER@HOST:PORT/DATABASE; this one is "
      "neither");
}

}  // namespace

Store::Store(std::unique_ptr<sql::Database> database)
    : database_(std::move(database)),
      audit_(*database_),
      identity_(*database_),
      specs_(*database_),
      sessions_(*database_),
      history_(*database_),
      alerts_(*database_),
      cluster_(*database_),
      runs_(*database_),
      backups_(*database_) {}

StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& url) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<sql::Database> database, OpenDatabase(url));
  database->OnRecovery([](sql::Transaction& t, const sql::EpochChange& change) {
    return RecoverStore(t, change, SystemClock().Now());
  });
  MUSTER_RETURN_IF_ERROR(database->Migrate(Migrations()));
  MUSTER_RETURN_IF_ERROR(database->StoreEpoch().status());
  return std::unique_ptr<Store>(new Store(std::move(database)));
}

StatusOr<std::unique_ptr<Store>> Store::OpenInMemory() { return Open("sqlite::memory:"); }

}  // namespace muster::control
