#include "control-plane/store/leader_epoch.h"

#include "control-plane/store/columns.h"
#include "lib/base/seeded_bugs.h"

namespace muster::control {
namespace {

constexpr char kFenced[] = "muster/fenced";

}  // namespace

Status CheckLeader(sql::Transaction& transaction, LeaderEpoch epoch) {
  if (Seeded(SeededBug::kFenceOff)) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          transaction.Query("SELECT epoch, holder FROM lease WHERE id = 1"));
  if (rows.empty()) return DataLoss("the lease has no row; restore the newest backup of the store");
  if (Unsigned(rows[0].Int(0)) == epoch.value) return OkStatus();
  Status fenced =
      FailedPrecondition("the term {} is over: {} leads in term {}; nothing was written",
                         epoch.value, rows[0].Text(1), rows[0].Int(0));
  fenced.SetPayload(kFenced, absl::Cord());
  return fenced;
}

bool IsFenced(const Status& status) { return status.GetPayload(kFenced).has_value(); }

}  // namespace muster::control
