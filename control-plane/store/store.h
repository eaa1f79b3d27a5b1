// The store: one database, one object an aggregate, and the schema that they stand on.
#pragma once

#include <memory>
#include <string>

#include "control-plane/store/alert_store.h"
#include "control-plane/store/audit.h"
#include "control-plane/store/backup_store.h"
#include "control-plane/store/cluster_store.h"
#include "control-plane/store/history_store.h"
#include "control-plane/store/identity_store.h"
#include "control-plane/store/run_store.h"
#include "control-plane/store/session_store.h"
#include "control-plane/store/spec_store.h"
#include "lib/sql/database.h"

namespace muster::control {

class Store {
 public:
  // "sqlite:PATH" or "postgresql://USER@HOST:PORT/DATABASE". Migrates the schema, and recovers the
  // numbers of a store that was failed over or restored. InvalidArgument for a URL of another
  // shape.
  static StatusOr<std::unique_ptr<Store>> Open(const std::string& url);
  // For tests.
  static StatusOr<std::unique_ptr<Store>> OpenInMemory();

  sql::Database& database() { return *database_; }
  AuditStore& audit() { return audit_; }
  IdentityStore& identity() { return identity_; }
  SpecStore& specs() { return specs_; }
  SessionStore& sessions() { return sessions_; }
  HistoryStore& history() { return history_; }
  AlertStore& alerts() { return alerts_; }
  ClusterStore& cluster() { return cluster_; }
  RunStore& runs() { return runs_; }
  BackupStore& backups() { return backups_; }

 private:
  explicit Store(std::unique_ptr<sql::Database> database);
  std::unique_ptr<sql::Database> database_;
  AuditStore audit_;
  IdentityStore identity_;
  SpecStore specs_;
  SessionStore sessions_;
  HistoryStore history_;
  AlertStore alerts_;
  ClusterStore cluster_;
  RunStore runs_;
  BackupStore backups_;
};

}  // namespace muster::control
