// What the backups of a job are worth, in a few figures, and whether somebody must be told. Pure.
//
//   the first that holds                                  is
//   no verified backup younger than verifiedWithin        CRITICAL
//   one that must not be relied upon, newer than every    CRITICAL
//     verified one
//   any other that must not be relied upon                WARNING
//   the newest holds less than half, or more than twice,  WARNING
//     of what is usual
//   what keep does not keep could not be removed          WARNING
#pragma once

#include <map>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/store/backup_store.h"
#include "muster/v1/alert_service.pb.h"

namespace muster::control {

struct BackupSummary {
  uint64_t kept = 0;
  uint64_t verified = 0;
  absl::Time newest_at = absl::InfinitePast();    // of any
  absl::Time verified_at = absl::InfinitePast();  // of the newest verified one: what is safe
  std::string newest;                             // its id
  uint64_t source_bytes = 0;                      // of the newest
  uint64_t stored_bytes = 0;
  uint64_t usual_bytes = 0;     // of the source, the median of up to seven before; 0: too few
  absl::Duration restore_took;  // of the newest that was restored; 0: none was
  // The newest that must not be relied upon.
  std::string bad;
  absl::Time bad_at = absl::InfinitePast();
  std::string problem;
};

// Of one job's backups that are in their repository, newest first.
BackupSummary SummaryOf(const std::vector<const BackupRow*>& backups);
// By job, of all.
std::map<std::string, BackupSummary> Summaries(const std::vector<BackupRow>& backups);

struct BackupHealth {
  v1::Severity severity = v1::SEVERITY_UNSPECIFIED;  // then all is well
  std::string summary;  // the same for as long as nothing but time goes on
};

struct BackupFacts {
  const v1::BackupTask& task;
  const BackupSummary& summary;
  std::string_view keep_problem;  // as in JobRow
  absl::Time since;               // from when on the job asks for backups as it does now
};
BackupHealth JudgeBackups(const BackupFacts& facts, absl::Time now);

}  // namespace muster::control
