// One statement over a list of rows, gathered one by one. See sql::Transaction::ExecuteRows for
// what head and tail are.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/sql/database.h"

namespace muster::control {

class ManyRows {
 public:
  // `columns` parameters a row.
  ManyRows(std::string head, size_t columns, std::string_view tail = "")
      : head_(std::move(head)), columns_(columns), tail_(tail) {}

  // What it borrows must live until Execute or Query returns.
  void Add(std::initializer_list<sql::Parameter> row);
  bool empty() const { return parameters_.empty(); }

  // Rows changed.
  StatusOr<int64_t> Execute(sql::Transaction& transaction) const;
  StatusOr<sql::Rows> Query(sql::Transaction& transaction) const;
  // See sql::Transaction::SendRows.
  Status Send(sql::Transaction& transaction, std::optional<int64_t> changes = std::nullopt) const;

 private:
  const std::string head_;
  const size_t columns_;
  const std::string tail_;
  std::vector<sql::Parameter> parameters_;
};

}  // namespace muster::control
