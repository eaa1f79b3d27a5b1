#include "control-plane/store/spec_store.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "control-plane/store/columns.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr std::string_view kSpecColumns =
    "document, generation, hash, changed_at, changed_by, check_id, kind, name";
constexpr std::string_view kCheck = "Check";
constexpr std::string_view kReceiver = "Receiver";
constexpr std::string_view kJob = "Job";
constexpr std::string_view kRevision = "spec_revision";

std::string Serialise(const v1::Document& document) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  document.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

StatusOr<SpecRow> ReadSpec(const sql::Row& row) {
  SpecRow spec;
  if (!spec.document.ParseFromString(row.Text(0))) {
    return DataLoss("the stored {}/{} is damaged", row.Text(6), row.Text(7));
  }
  spec.generation = Unsigned(row.Int(1));
  spec.hash = row.Text(2);
  spec.changed_at = row.Time(3);
  spec.changed_by = row.Text(4);
  spec.check_id = static_cast<uint32_t>(row.Int(5));
  return spec;
}

StatusOr<std::vector<SpecRow>> ReadSpecs(const sql::Rows& rows) {
  std::vector<SpecRow> specs;
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(SpecRow spec, ReadSpec(row));
    specs.push_back(std::move(spec));
  }
  return specs;
}

StatusOr<std::vector<SpecRow>> FindSpec(sql::Transaction& t, std::string_view kind,
                                        std::string_view name) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM specs WHERE kind = $1 AND name = $2", kSpecColumns),
              {kind, name}));
  return ReadSpecs(rows);
}

// The number of a check's name, given out at its first sight and kept for ever.
StatusOr<int64_t> NumberOf(sql::Transaction& t, std::string_view name) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          t.Query("SELECT id FROM check_names WHERE name = $1", {name}));
  if (!rows.empty()) return rows[0].Int(0);
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, kCheckNumber));
  MUSTER_RETURN_IF_ERROR(
      t.Execute("INSERT INTO check_names (name, id) VALUES ($1, $2)", {name, id}).status());
  return id;
}

v1::SpecChange Change(const v1::Document& document, v1::SpecChange::Action action,
                      uint64_t generation) {
  v1::SpecChange change;
  change.set_kind(document.kind());
  change.set_name(document.metadata().name());
  change.set_action(action);
  change.set_generation(generation);
  return change;
}

StatusOr<v1::SpecDiff> DiffOne(sql::Transaction& t, const v1::Document& document) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<SpecRow> found,
                          FindSpec(t, document.kind(), document.metadata().name()));
  v1::SpecDiff diff;
  *diff.mutable_after() = document;
  if (found.empty()) {
    *diff.mutable_change() = Change(document, v1::SpecChange::ACTION_CREATED, 1);
    return diff;
  }
  const bool same = found[0].hash == HexEncode(Sha256(Serialise(document)));
  *diff.mutable_change() =
      Change(document, same ? v1::SpecChange::ACTION_UNCHANGED : v1::SpecChange::ACTION_CHANGED,
             found[0].generation + (same ? 0 : 1));
  *diff.mutable_before() = std::move(found[0].document);
  return diff;
}

Status StoreOne(sql::Transaction& t, const v1::Document& document, uint64_t generation,
                const AuditNote& note) {
  const std::string bytes = Serialise(document);
  const std::string hash = HexEncode(Sha256(bytes));
  int64_t number = 0;
  if (document.kind() == kCheck) {
    MUSTER_ASSIGN_OR_RETURN(number, NumberOf(t, document.metadata().name()));
  }
  return t
      .Execute(
          "INSERT INTO specs (kind, name, document, generation, hash, changed_at, changed_by, "
          "check_id) "
          "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, name) DO UPDATE SET "
          "document = excluded.document, generation = excluded.generation, hash = excluded.hash, "
          "changed_at = excluded.changed_at, changed_by = excluded.changed_by",
          {std::string_view(document.kind()), std::string_view(document.metadata().name()),
           sql::Bytes{bytes}, Signed(generation), std::string_view(hash), sql::ToMicros(note.at),
           std::string_view(note.actor), number})
      .status();
}

Status AuditChange(sql::Transaction& t, const AuditNote& note, std::string_view kind,
                   std::string_view name, std::string detail) {
  AuditNote one = note;
  one.subject = fmt::format("{}/{}", kind, name);
  one.detail = std::move(detail);
  return AppendAudit(t, one);
}

Status RemoveStates(sql::Transaction& t, int64_t check_id, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          t.Query("SELECT agent FROM states WHERE check_id = $1", {check_id}));
  for (const sql::Row& row : rows) {
    MUSTER_RETURN_IF_ERROR(RemoveState(t, row.Text(0), check_id, now));
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<v1::SpecChange>> SpecStore::Apply(const std::vector<v1::Document>& documents,
                                                       const AuditNote& note) {
  std::vector<v1::SpecChange> changes;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    changes.clear();
    bool changed = false;
    for (const v1::Document& document : documents) {
      MUSTER_ASSIGN_OR_RETURN(const v1::SpecDiff diff, DiffOne(t, document));
      changes.push_back(diff.change());
      if (diff.change().action() == v1::SpecChange::ACTION_UNCHANGED) continue;
      changed = true;
      MUSTER_RETURN_IF_ERROR(StoreOne(t, document, diff.change().generation(), note));
      MUSTER_RETURN_IF_ERROR(AuditChange(t, note, document.kind(), document.metadata().name(),
                                         fmt::format("generation {}", diff.change().generation())));
    }
    return changed ? NextValue(t, kRevision).status() : OkStatus();
  }));
  return changes;
}

StatusOr<std::vector<v1::SpecDiff>> SpecStore::Diff(const std::vector<v1::Document>& documents) {
  std::vector<v1::SpecDiff> diffs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    diffs.clear();
    for (const v1::Document& document : documents) {
      MUSTER_ASSIGN_OR_RETURN(v1::SpecDiff diff, DiffOne(t, document));
      diffs.push_back(std::move(diff));
    }
    return OkStatus();
  }));
  return diffs;
}

StatusOr<std::vector<v1::SpecChange>> SpecStore::Delete(const std::vector<SpecKey>& keys,
                                                        const AuditNote& note) {
  std::vector<v1::SpecChange> changes;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    changes.clear();
    for (const SpecKey& key : keys) {
      MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> found, FindSpec(t, key.kind, key.name));
      if (found.empty())
        return NotFound("there is no {}/{}; nothing was deleted", key.kind, key.name);
      if (found[0].check_id != 0)
        MUSTER_RETURN_IF_ERROR(RemoveStates(t, found[0].check_id, note.at));
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM specs WHERE kind = $1 AND name = $2",
                                       {std::string_view(key.kind), std::string_view(key.name)})
                                 .status());
      MUSTER_RETURN_IF_ERROR(AuditChange(t, note, key.kind, key.name, "deleted"));
      changes.push_back(
          Change(found[0].document, v1::SpecChange::ACTION_DELETED, found[0].generation));
    }
    return NextValue(t, kRevision).status();
  }));
  return changes;
}

StatusOr<SpecPage> SpecStore::List(std::string_view kind, std::string_view name,
                                   const SpecKey& after, uint32_t limit) {
  SpecPage page;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM specs WHERE (kind > $1 OR (kind = $2 AND name > $3)) "
                            "AND ($4 = '' OR kind = $5) AND ($6 = '' OR name = $7) "
                            "ORDER BY kind, name LIMIT $8",
                            kSpecColumns),
                {std::string_view(after.kind), std::string_view(after.kind),
                 std::string_view(after.name), kind, kind, name, name, int64_t{limit} + 1}));
    MUSTER_ASSIGN_OR_RETURN(page.rows, ReadSpecs(rows));
    return OkStatus();
  }));
  page.more = page.rows.size() > limit;
  if (page.more) page.rows.resize(limit);
  return page;
}

StatusOr<std::vector<SpecRow>> SpecStore::Checks() {
  std::vector<SpecRow> checks;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM specs WHERE kind = $1 ORDER BY check_id", kSpecColumns),
                {kCheck}));
    MUSTER_ASSIGN_OR_RETURN(checks, ReadSpecs(rows));
    return OkStatus();
  }));
  return checks;
}

StatusOr<std::map<uint32_t, std::string>> SpecStore::CheckNames() {
  std::map<uint32_t, std::string> names;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT check_id, name FROM specs WHERE kind = $1", {kCheck}));
    names.clear();
    for (const sql::Row& row : rows) names[static_cast<uint32_t>(row.Int(0))] = row.Text(1);
    return OkStatus();
  }));
  return names;
}

StatusOr<std::vector<SpecRow>> SpecStore::OfKind(std::string_view kind) {
  std::vector<SpecRow> specs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM specs WHERE kind = $1 ORDER BY name", kSpecColumns),
                {kind}));
    MUSTER_ASSIGN_OR_RETURN(specs, ReadSpecs(rows));
    return OkStatus();
  }));
  return specs;
}

StatusOr<std::vector<SpecRow>> SpecStore::Receivers() { return OfKind(kReceiver); }

StatusOr<std::vector<SpecRow>> SpecStore::Jobs() { return OfKind(kJob); }

StatusOr<std::optional<SpecRow>> SpecStore::FindJob(std::string_view name) {
  std::optional<SpecRow> job;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(std::vector<SpecRow> found, FindSpec(t, kJob, name));
    if (!found.empty()) job = std::move(found[0]);
    return OkStatus();
  }));
  return job;
}

StatusOr<uint64_t> SpecStore::Revision() {
  int64_t revision = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(revision, LastValue(t, kRevision));
    return OkStatus();
  }));
  return Unsigned(revision);
}

StatusOr<uint32_t> SpecStore::CheckId(std::string_view name) {
  uint32_t id = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT id FROM check_names WHERE name = $1", {name}));
    if (!rows.empty()) id = static_cast<uint32_t>(rows[0].Int(0));
    return OkStatus();
  }));
  return id;
}

}  // namespace muster::control
