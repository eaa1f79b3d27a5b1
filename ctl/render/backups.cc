#include "ctl/render/backups.h"

#include <absl/time/time.h>

#include "ctl/render/jobs.h"
#include "ctl/render/json_fields.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

constexpr size_t kMostTablesShown = 20;

// What a person must know of it first.
std::string NoteText(const Json& backup) {
  if (const std::string problem = TextAt(backup, "problem"); !problem.empty()) return problem;
  if (!TextAt(backup, "forgottenAt").empty())
    return "removed by run " + TextAt(backup, "forgottenBy");
  if (const std::string held = TextAt(backup, "heldBecause"); !held.empty()) return "held: " + held;
  return backup.value("verified", false) ? "" : "not verified";
}

std::string SizeText(uint64_t bytes) {
  return bytes == 0 ? "" : CountText(static_cast<double>(bytes), "B");
}

std::string ProofText(const v1::Backup& backup) {
  std::string proof = v1::BackupProof_Name(backup.proof()).substr(sizeof("BACKUP_PROOF_") - 1);
  if (!backup.has_proven_at()) return proof;
  return fmt::format("{} at {}", proof, SecondText(wire::FromProto(backup.proven_at())));
}

std::string ContentText(const v1::Backup& backup) {
  std::string text = CountText(static_cast<double>(backup.source_bytes()), "B");
  if (backup.files() > 0) text += fmt::format(" in {} files", backup.files());
  if (backup.table_count() > 0)
    text += fmt::format(", {} rows in {} tables", backup.row_count(), backup.table_count());
  if (backup.key_count() > 0) text += fmt::format(", {} keys", backup.key_count());
  return text;
}

// Moments that it can be restored as of.
std::string MomentsText(const v1::Backup& backup) {
  if (!backup.has_recoverable_until()) return "";
  return fmt::format("any moment from {} to {} at least",
                     SecondText(wire::FromProto(backup.taken_at())),
                     SecondText(wire::FromProto(backup.recoverable_until())));
}

std::string TablesText(const v1::Backup& backup, const TableStyle& style) {
  if (backup.tables().empty()) return "";
  Json rows = Json::array();
  for (const v1::TableRows& table : backup.tables()) {
    if (rows.size() == kMostTablesShown) break;
    rows.push_back({{"table", table.table()}, {"rows", table.rows()}});
  }
  std::string text = "\n" + TableText({{"TABLE", "table"}, {"ROWS", "rows"}}, rows, style);
  const size_t more = static_cast<size_t>(backup.tables_size()) - rows.size();
  return more == 0 ? text : text + fmt::format("… and {} more; -o json shows all\n", more);
}

}  // namespace

Json BackupJson(const v1::StoredBackup& stored) {
  Json json = ToJson(stored.backup());
  Json known = ToJson(stored);
  known.erase("backup");
  for (const char* key : {"madeByJob", "madeByRun"}) json.erase(key);
  json.update(known);
  return json;
}

Json BackupTableRow(const Json& backup, const TableStyle& style) {
  Json row = backup;
  const std::string id = TextAt(backup, "snapshotId");
  row["id"] = style.wide || wire::IsBackupLabel(id) ? id : ShortId(id);
  const auto taken = TimeAt(backup, "takenAt");
  row["taken"] = taken.has_value() ? SpanText(style.now - *taken) + " ago" : "";
  row["sourceSize"] = SizeText(NumberAt(backup, "sourceBytes"));
  row["storedSize"] = SizeText(NumberAt(backup, "storedBytes"));
  const auto took = ParseDuration(TextAt(backup, "restoreTook"));
  row["restored"] = took.ok() ? SpanText(*took) : "";
  row["note"] = NoteText(backup);
  return row;
}

Json DecisionJson(const v1::RetentionDecision& decision) {
  Json json = BackupJson(decision.backup());
  json["decision"] = decision.keep() ? "keep" : "delete";
  json["reason"] = decision.reason();
  return json;
}

std::string DescribeBackupText(const v1::StoredBackup& stored, const TableStyle& style) {
  const v1::Backup& backup = stored.backup();
  std::string text = Fact("Backup", backup.snapshot_id()) + Fact("Of", backup.source());
  const absl::Time taken = wire::FromProto(backup.taken_at());
  text += Fact("Taken", fmt::format("{}, {} ago", SecondText(taken), SpanText(style.now - taken)));
  text += Fact("Proof", ProofText(backup));
  text += Fact("Verified", stored.verified() ? "yes" : "no");
  text += Fact("Problem", backup.problem());
  text += Fact("Holds", ContentText(backup));
  text += Fact("Stored", SizeText(backup.stored_bytes()));
  text += Fact("Where", backup.repository());
  text += Fact("Needs", backup.prior_id());
  text += Fact("Leads to", MomentsText(backup));
  text += Fact("Took", backup.has_took() ? SpanText(wire::FromProto(backup.took())) : "");
  text += Fact("Restored", backup.has_restore_took()
                               ? "in " + SpanText(wire::FromProto(backup.restore_took()))
                               : "");
  text += Fact("Server", backup.server_version()) + Fact("System", backup.system_identifier());
  text += Fact("Job", stored.job()) + Fact("Agent", stored.agent()) + Fact("Run", stored.run());
  if (!stored.held_because().empty())
    text += Fact("Held", fmt::format("{}, by {}", stored.held_because(), stored.held_by()));
  if (stored.has_forgotten_at()) {
    text += Fact("Removed",
                 fmt::format("{} by run {}", SecondText(wire::FromProto(stored.forgotten_at())),
                             stored.forgotten_by()));
  }
  return text + TablesText(backup, style);
}

}  // namespace muster::ctl
