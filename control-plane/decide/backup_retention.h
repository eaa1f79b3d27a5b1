// Which backups of one job are kept, and why. Pure. Nothing is removed that might be needed:
//
//   is it held?                                     ─► keep
//   did the job's newest run fail?                  ─► keep them all
//   is no rule set?                                 ─► keep them all
//   of another server than the newest verified, or  ─► keep: somebody must look
//     in another repository?
//   newer than the newest verified, or as new?      ─► keep
//   one of the K newest verified?                   ─► keep
//   younger than the minimum age?                   ─► keep
//   verified, and named by a rule?                  ─► keep
//   else                                            ─► delete
//   needed by one that is kept, itself or by way of others?  ─► keep
//
// Only verified backups are counted by rules, so that failures push nothing out.
#pragma once

#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/store/backup_store.h"
#include "muster/v1/backup.pb.h"
#include "muster/v1/run_service.pb.h"

namespace muster::control {

struct KeptBackup {
  std::string id;
  absl::Time taken_at;
  std::string system_identifier;
  std::string repository_id;
  bool verified = false;  // proven as its job asked for when it was made, and nothing is wrong
  bool has_problem = false;
  std::string held_because;  // somebody wants it to stay; empty if nobody does
  std::string prior_id;      // that it cannot be restored without; empty if it needs none
};

struct RetentionFacts {
  v1::BackupKeep keep;
  bool newest_run_failed = false;
  std::vector<KeptBackup> backups;  // in any order
  absl::Time now;
};

struct RetentionDecision {
  std::string id;
  bool keep = true;
  std::string reason;
};

// Of the job's backups that are in their repository, as the catalogue knows them.
RetentionFacts RetentionOf(const v1::BackupKeep& keep, const std::vector<BackupRow>& backups,
                           v1::RunState newest_run, absl::Time now);

// One for each backup, newest first; those of one moment by id.
std::vector<RetentionDecision> DecideRetention(const RetentionFacts& facts);

}  // namespace muster::control
