#include "control-plane/rpc/assignments.h"

#include "lib/wire/time.h"

namespace muster::control {
namespace {

v1::Assignment::Stop StopOf(RunStop stop) {
  switch (stop) {
    case RunStop::kCancel: return v1::Assignment::STOP_CANCEL;
    case RunStop::kTerminate: return v1::Assignment::STOP_TERMINATE;
    case RunStop::kNo: break;
  }
  return v1::Assignment::STOP_UNSPECIFIED;
}

}  // namespace

AssignmentBook MakeAssignmentBook(const std::vector<RunRow>& runs) {
  AssignmentBook book;
  for (const RunRow& run : runs) {
    v1::Assignments& assignments = book[run.agent];
    if (assignments.items_size() >= kMostAssignments) continue;
    v1::Assignment& item = *assignments.add_items();
    item.set_run_id(run.id);
    item.set_fence(run.fence);
    item.set_job(run.job);
    *item.mutable_spec() = run.spec;
    if (run.action.empty()) *item.mutable_slot() = wire::ToProto(run.slot);
    if (run.start_by != absl::InfiniteFuture()) {
      *item.mutable_start_by() = wire::ToProto(run.start_by);
    }
    item.set_stop(StopOf(run.stop));
    item.set_stop_reason(run.stop_reason);
  }
  return book;
}

}  // namespace muster::control
