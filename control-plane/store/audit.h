// The audit chain: each entry's hash covers the entry before it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/sql/database.h"

namespace muster::control {

// What a privileged change says of itself.
struct AuditNote {
  std::string actor;   // "admin/root", "control"
  std::string action;  // "token.create"
  std::string subject;
  std::string detail;  // never a secret
  absl::Time at;
};

struct AuditRow {
  uint64_t sequence = 0;
  AuditNote note;
  std::string hash;  // 32 bytes
};

// The chain's end, and one place in it.
struct ChainPlace {
  uint64_t last_sequence = 0;       // 0: the chain is empty
  std::string last_hash;            // of the last entry
  std::optional<std::string> hash;  // of the entry that was asked for, if it is there
};

// Within the transaction of the change.
Status AppendAudit(sql::Transaction& transaction, const AuditNote& note);

class AuditStore {
 public:
  explicit AuditStore(sql::Database& database) : database_(database) {}
  StatusOr<std::vector<AuditRow>> List(uint64_t after, uint32_t limit);
  // The end and the entry `sequence` at one moment. Looks at nothing in between.
  StatusOr<ChainPlace> Look(uint64_t sequence);
  // DataLoss names the first entry whose hash does not follow from the one before.
  Status Verify();

 private:
  sql::Database& database_;
};

}  // namespace muster::control
