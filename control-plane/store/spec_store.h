// Applied documents, with generations. A Check has a permanent number that plans and results use.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/audit.h"
#include "lib/sql/database.h"
#include "muster/v1/document.pb.h"
#include "muster/v1/spec_service.pb.h"

namespace muster::control {

struct SpecRow {
  v1::Document document;
  uint64_t generation = 0;
  std::string hash;
  absl::Time changed_at;
  std::string changed_by;
  uint32_t check_id = 0;  // for kind Check; never used again for another name
};

struct SpecKey {
  std::string kind;
  std::string name;
};

struct SpecPage {
  std::vector<SpecRow> rows;
  bool more = false;
};

class SpecStore {
 public:
  explicit SpecStore(sql::Database& database) : database_(database) {}

  // All or none; the answer is in the documents' order. One audit entry a changed document.
  StatusOr<std::vector<v1::SpecChange>> Apply(const std::vector<v1::Document>& documents,
                                              const AuditNote& note);
  // What Apply would do.
  StatusOr<std::vector<v1::SpecDiff>> Diff(const std::vector<v1::Document>& documents);
  // All or none; NotFound names the first that is not there. Check states of a deleted check are
  // removed and their firing alerts marked for resolution by the alert loop.
  StatusOr<std::vector<v1::SpecChange>> Delete(const std::vector<SpecKey>& keys,
                                               const AuditNote& note);
  // In order of (kind, name), after the key. Empty kind or name: all.
  StatusOr<SpecPage> List(std::string_view kind, std::string_view name, const SpecKey& after,
                          uint32_t limit);
  // Every check, ascending by number.
  StatusOr<std::vector<SpecRow>> Checks();
  // Their names by number: what most readers want of them.
  StatusOr<std::map<uint32_t, std::string>> CheckNames();
  StatusOr<std::vector<SpecRow>> Receivers();
  // By name.
  StatusOr<std::vector<SpecRow>> Jobs();
  StatusOr<std::optional<SpecRow>> FindJob(std::string_view name);
  // Grows with every change of any document: a cheap "has anything changed?".
  StatusOr<uint64_t> Revision();
  // 0 if there never was such a check. Deleted ones keep their number.
  StatusOr<uint32_t> CheckId(std::string_view name);

 private:
  StatusOr<std::vector<SpecRow>> OfKind(std::string_view kind);

  sql::Database& database_;
};

}  // namespace muster::control
