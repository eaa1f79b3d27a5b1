#include "control-plane/rpc/backup_reader.h"

#include <map>

#include "control-plane/rpc/paging.h"
#include "control-plane/rpc/run_reader.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr uint32_t kDefaultBackups = 200;

}  // namespace

v1::StoredBackup BackupMessage(const BackupRow& row) {
  v1::StoredBackup message;
  *message.mutable_backup() = row.backup;
  message.mutable_backup()->set_snapshot_id(std::string(wire::SnapshotOf(row.id())));
  message.set_job(row.job);
  message.set_agent(row.agent);
  message.set_run(row.run);
  message.set_verified(IsVerified(row));
  message.set_held_because(row.held_because);
  message.set_held_by(row.held_by);
  if (row.forgotten_at != absl::InfiniteFuture()) {
    *message.mutable_forgotten_at() = wire::ToProto(row.forgotten_at);
  }
  message.set_forgotten_by(row.forgotten_by);
  return message;
}

StatusOr<BackupRow> FindBackup(Store& store, const std::string& snapshot_id) {
  MUSTER_ASSIGN_OR_RETURN(std::optional<BackupRow> row, store.backups().Find(snapshot_id));
  if (row.has_value()) return *std::move(row);
  return NotFound("there is no backup {}; see musterctl backup list", snapshot_id);
}

StatusOr<RetentionView> ViewRetention(Store& store, const std::string& job, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(const SpecRow spec, FindJob(store, job));
  if (!spec.document.job().has_backup()) return FailedPrecondition("{} makes no backups", job);
  RetentionView view;
  view.spec = spec.document.job();
  MUSTER_ASSIGN_OR_RETURN(view.backups, store.backups().KeptOf(job));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<JobRow> rows, store.runs().Jobs());
  v1::RunState newest = v1::RUN_STATE_UNSPECIFIED;
  for (const JobRow& row : rows)
    if (row.name == job) newest = row.health.state;
  view.decisions =
      DecideRetention(RetentionOf(view.spec.backup().keep(), view.backups, newest, now));
  return view;
}

Status ListBackups(Store& store, const v1::ListBackupsRequest& request,
                   v1::ListBackupsResponse& response) {
  const std::string& prefix = request.id_prefix();
  // Hex digits, or of "20261128-020000F_20261128-140000I@STANZA:SYSTEM IDENTIFIER".
  constexpr std::string_view kOfIds =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.@:";
  if (prefix.find_first_not_of(kOfIds) != std::string::npos) {
    return InvalidArgument("id_prefix: \"{}\" begins no backup's id", prefix);
  }
  MUSTER_ASSIGN_OR_RETURN(const NewestFirst from, ReadNewestFirst(request.page_token()));
  const uint32_t size = request.page_size() == 0 ? kDefaultBackups : PageSize(request.page_size());
  MUSTER_ASSIGN_OR_RETURN(std::vector<BackupRow> rows,
                          store.backups().List({.job = request.job(),
                                                .agent = request.agent(),
                                                .id_prefix = prefix,
                                                .forgotten = request.forgotten()},
                                               from.before, from.id, size + 1));
  const bool more = rows.size() > size;
  if (more) rows.resize(size);
  for (const BackupRow& row : rows) *response.add_items() = BackupMessage(row);
  if (!more) return OkStatus();
  response.set_next_page_token(
      MakePageToken(NewestFirst{wire::FromProto(rows.back().backup.taken_at()), rows.back().id()}));
  return OkStatus();
}

Status PlanRetention(Store& store, const v1::PlanRetentionRequest& request, absl::Time now,
                     v1::PlanRetentionResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const RetentionView view, ViewRetention(store, request.job(), now));
  std::map<std::string, const BackupRow*> row_of;
  for (const BackupRow& row : view.backups) row_of[row.id()] = &row;
  for (const RetentionDecision& decision : view.decisions) {
    v1::RetentionDecision& item = *response.add_items();
    *item.mutable_backup() = BackupMessage(*row_of.at(decision.id));
    item.set_keep(decision.keep);
    item.set_reason(decision.reason);
  }
  return OkStatus();
}

}  // namespace muster::control
