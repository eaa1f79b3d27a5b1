#include "control-plane/store/asked_job.h"

#include "control-plane/store/columns.h"
#include "control-plane/store/identity_store.h"
#include "lib/decide/selector.h"
#include "muster/v1/document.pb.h"

namespace muster::control {

StatusOr<v1::JobSpec> JobAskedOf(sql::Transaction& t, std::string_view job,
                                 std::string_view agent) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows found,
      t.Query("SELECT document FROM specs WHERE kind = 'Job' AND name = $1", {job}));
  if (found.empty()) return NotFound("there is no such job: apply it first");
  v1::Document document;
  if (!document.ParseFromString(found[0].Text(0))) return DataLoss("the stored job is damaged");
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows agents,
                          t.Query("SELECT labels FROM agents WHERE name = $1", {agent}));
  const Labels labels = agents.empty() ? Labels{} : UnpackMap(agents[0].Text(0));
  if (!decide::Selects(document.job().agents(), agent, labels)) {
    return PermissionDenied("the job does not ask for this agent: see spec.agents");
  }
  return document.job();
}

}  // namespace muster::control
