// One statement over a list of rows: "HEAD ($1, $2), ($3, $4) … TAIL", in as few statements as the
// databases' limits allow. Their sizes are few and fixed, so that prepared ones are found again.
#pragma once

#include <initializer_list>
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

  // Rows changed, of all statements.
  StatusOr<int64_t> Execute(sql::Transaction& transaction) const;
  StatusOr<sql::Rows> Query(sql::Transaction& transaction) const;

 private:
  struct Part {
    std::string sql;
    std::span<const sql::Parameter> parameters;
  };
  std::vector<Part> Parts() const;
  std::string Text(size_t rows) const;

  const std::string head_;
  const size_t columns_;
  const std::string tail_;
  std::vector<sql::Parameter> parameters_;
};

}  // namespace muster::control
