#include "control-plane/store/audit.h"

#include "control-plane/store/columns.h"
#include "lib/base/hash.h"

namespace muster::control {
namespace {

constexpr uint32_t kVerifyPage = 1000;

// Each field with its length, so that no two entries have the same text.
std::string HashOf(const std::string& before, uint64_t sequence, const AuditNote& note) {
  std::string text = before;
  const auto add = [&](std::string_view field) {
    text += fmt::format("{}:{}", field.size(), field);
  };
  add(fmt::format("{}", sequence));
  add(fmt::format("{}", sql::ToMicros(note.at)));
  add(note.actor);
  add(note.action);
  add(note.subject);
  add(note.detail);
  return Sha256(text);
}

AuditRow ReadAudit(const sql::Row& row) {
  AuditRow audit;
  audit.sequence = Unsigned(row.Int(0));
  audit.note.at = row.Time(1);
  audit.note.actor = row.Text(2);
  audit.note.action = row.Text(3);
  audit.note.subject = row.Text(4);
  audit.note.detail = row.Text(5);
  audit.hash = row.Text(6);
  return audit;
}

}  // namespace

Status AppendAudit(sql::Transaction& transaction, const AuditNote& note) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows last,
      transaction.Query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1"));
  const uint64_t sequence = last.empty() ? 1 : Unsigned(last[0].Int(0)) + 1;
  const std::string before = last.empty() ? std::string(32, '\0') : last[0].Text(1);
  AuditNote stored = note;
  stored.at = sql::FromMicros(sql::ToMicros(note.at));
  const std::string hash = HashOf(before, sequence, stored);
  return transaction
      .Execute(
          "INSERT INTO audit (sequence, at, actor, action, subject, detail, hash) "
          "VALUES ($1, $2, $3, $4, $5, $6, $7)",
          {Signed(sequence), sql::ToMicros(note.at), std::string_view(note.actor),
           std::string_view(note.action), std::string_view(note.subject),
           std::string_view(note.detail), sql::Bytes{hash}})
      .status();
}

StatusOr<std::vector<AuditRow>> AuditStore::List(uint64_t after, uint32_t limit) {
  std::vector<AuditRow> entries;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT sequence, at, actor, action, subject, detail, hash FROM audit "
                "WHERE sequence > $1 ORDER BY sequence LIMIT $2",
                {Signed(after), int64_t{limit}}));
    entries.clear();
    for (const sql::Row& row : rows) entries.push_back(ReadAudit(row));
    return OkStatus();
  }));
  return entries;
}

StatusOr<ChainPlace> AuditStore::Look(uint64_t sequence) {
  ChainPlace place;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    place = {};
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows last,
        t.Query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1"));
    if (last.empty()) return OkStatus();
    place.last_sequence = Unsigned(last[0].Int(0));
    place.last_hash = last[0].Text(1);
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows asked,
        t.Query("SELECT hash FROM audit WHERE sequence = $1", {Signed(sequence)}));
    if (!asked.empty()) place.hash = asked[0].Text(0);
    return OkStatus();
  }));
  return place;
}

Status AuditStore::Verify() {
  std::string before(32, '\0');
  uint64_t sequence = 0;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<AuditRow> entries, List(sequence, kVerifyPage));
    if (entries.empty()) return OkStatus();
    for (const AuditRow& entry : entries) {
      if (entry.sequence != sequence + 1)
        return DataLoss("audit entry {} is missing", sequence + 1);
      if (entry.hash != HashOf(before, entry.sequence, entry.note)) {
        return DataLoss("audit entry {} does not follow from the one before it", entry.sequence);
      }
      before = entry.hash;
      sequence = entry.sequence;
    }
  }
}

}  // namespace muster::control
