// Values as PostgreSQL sends and takes them in its binary form: no text is written or read on the
// way, and bytes travel as they are.
#pragma once

#include <libpq-fe.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/sql/database.h"

namespace muster::sql {

// A statement's parameters as libpq takes them. Borrows texts and bytes from the parameters.
class PostgresParameters {
 public:
  // None.
  PostgresParameters() = default;
  // Internal unless the text uses exactly $1 to $N; InvalidArgument for a text with a zero byte.
  static StatusOr<PostgresParameters> Make(std::string_view sql,
                                           std::span<const Parameter> parameters);
  int count() const { return static_cast<int>(types_.size()); }
  const Oid* types() const { return types_.data(); }
  const char* const* values() const { return values_.data(); }
  const int* lengths() const { return lengths_.data(); }
  const int* formats() const { return formats_.data(); }

 private:
  friend struct PostgresTable;
  explicit PostgresParameters(size_t count);
  Status Add(const Parameter& parameter);
  void AddOwned(Oid type, std::string bytes);

  std::vector<Oid> types_;  // 0: the server tells it from where the parameter stands
  std::vector<const char*> values_;
  std::vector<int> lengths_;
  std::vector<int> formats_;
  std::vector<std::string> owned_;  // reserved: never moves
};

// Many rows as one array a column: the text is short and the same for any number of them.
struct PostgresTable {
  static StatusOr<PostgresTable> Make(const Table& table);
  std::string query;  // with the columns column1, column2 …
  PostgresParameters parameters;
};

// The rows of an answer in binary form. Internal for a type that no column of ours has.
StatusOr<Rows> ReadPostgresRows(const PGresult* result);

}  // namespace muster::sql
