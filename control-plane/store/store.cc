#include "control-plane/store/store.h"

#include "control-plane/store/schema.h"

namespace muster::control {

Store::Store(std::unique_ptr<sql::Database> database)
    : database_(std::move(database)),
      audit_(*database_),
      identity_(*database_),
      specs_(*database_),
      sessions_(*database_),
      history_(*database_),
      alerts_(*database_) {}

StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& url) {
  constexpr std::string_view kSqlite = "sqlite:";
  if (!url.starts_with(kSqlite) || url.size() == kSqlite.size()) {
    return InvalidArgument("\"{}\" is not a store; write sqlite:PATH", url);
  }
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<sql::Database> database,
                          sql::OpenSqlite(url.substr(kSqlite.size())));
  MUSTER_RETURN_IF_ERROR(database->Migrate(Migrations()));
  return std::unique_ptr<Store>(new Store(std::move(database)));
}

StatusOr<std::unique_ptr<Store>> Store::OpenInMemory() { return Open("sqlite::memory:"); }

}  // namespace muster::control
