// The catalogue of backups. Agents tell of them with their logs (backup_events.h); a backup that
// was removed from its repository stays for as long as runs do.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/store/audit.h"
#include "control-plane/store/leader_epoch.h"
#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"
#include "muster/v1/backup.pb.h"
#include "muster/v1/job.pb.h"

namespace muster::control {

struct BackupRow {
  v1::Backup backup;  // without the rows of its tables, except from Find
  std::string job;
  std::string agent;
  std::string run;   // that made it
  v1::JobSpec spec;  // of that run
  std::string held_because;
  std::string held_by;
  absl::Time forgotten_at = absl::InfiniteFuture();
  std::string forgotten_by;  // a run

  // Its key in the catalogue: lib/wire/backup_ids.h.
  const std::string& id() const { return backup.snapshot_id(); }
};

// Whether it was proven as its job asked for when it was made, and nothing is wrong with it.
inline bool IsVerified(const BackupRow& row) {
  const bool restores =
      row.spec.backup().verify().restore() && row.backup.engine() != v1::BACKUP_ENGINE_FILES;
  const v1::BackupProof wanted = restores ? v1::BACKUP_PROOF_RESTORED : v1::BACKUP_PROOF_READ_BACK;
  return row.backup.proof() >= wanted && row.backup.problem().empty();
}

struct BackupFilter {
  std::string job;    // empty: all
  std::string agent;  // empty: all
  std::string id_prefix;
  bool forgotten = false;  // those, too
};

class BackupStore {
 public:
  explicit BackupStore(sql::Database& database) : database_(database) {}

  // Grows with every change.
  StatusOr<uint64_t> Revision();
  // All that are in their repository, newest first.
  StatusOr<std::vector<BackupRow>> Kept();
  // Those of one job.
  StatusOr<std::vector<BackupRow>> KeptOf(const std::string& job);
  // Newest first, after the position.
  StatusOr<std::vector<BackupRow>> List(const BackupFilter& filter, absl::Time before,
                                        std::string_view before_id, uint32_t limit);
  StatusOr<std::optional<BackupRow>> Find(std::string_view snapshot_id);

  // The operator's. An empty reason lets it go. NotFound; FailedPrecondition if it was removed, or
  // a run that is to remove it is not over.
  StatusOr<BackupRow> Hold(std::string_view snapshot_id, std::string_view reason,
                           const AuditNote& note);
  // A run that removes backups; false if it is there already. Aborted if one of them is held
  // meanwhile: decide again. The leader's with its epoch, else the operator's.
  StatusOr<bool> StartForget(std::optional<LeaderEpoch> epoch, RunRow& run, const AuditNote& note);
  // The leader's. Those that were removed before; at most `limit`.
  StatusOr<uint64_t> DropForgottenBefore(LeaderEpoch epoch, absl::Time cutoff, uint32_t limit);

 private:
  sql::Database& database_;
};

}  // namespace muster::control
