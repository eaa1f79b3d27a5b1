#include "control-plane/store/many_rows.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include <fmt/format.h>

namespace muster::control {
namespace {

// Rows a statement, largest first. 512 rows of 14 columns are within SQLite's 32,766 parameters.
constexpr size_t kSizes[] = {512, 64, 8, 1};

}  // namespace

void ManyRows::Add(std::initializer_list<sql::Parameter> row) {
  assert(row.size() == columns_);
  parameters_.insert(parameters_.end(), row.begin(), row.end());
}

std::string ManyRows::Text(size_t rows) const {
  std::string sql = head_;
  size_t number = 0;
  for (size_t row = 0; row < rows; ++row) {
    sql += row == 0 ? "(" : ", (";
    for (size_t column = 0; column < columns_; ++column) {
      fmt::format_to(std::back_inserter(sql), "{}${}", column == 0 ? "" : ", ", ++number);
    }
    sql += ')';
  }
  return sql + (tail_.empty() ? "" : " ") + tail_;
}

std::vector<ManyRows::Part> ManyRows::Parts() const {
  std::vector<Part> parts;
  const std::span<const sql::Parameter> all(parameters_);
  const size_t rows = all.size() / columns_;
  size_t done = 0;
  for (const size_t size : kSizes) {
    const std::string sql = rows - done >= size ? Text(size) : "";
    for (; rows - done >= size; done += size) {
      parts.push_back({sql, all.subspan(done * columns_, size * columns_)});
    }
  }
  return parts;
}

StatusOr<int64_t> ManyRows::Execute(sql::Transaction& transaction) const {
  int64_t changed = 0;
  for (const Part& part : Parts()) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t rows, transaction.Execute(part.sql, part.parameters));
    changed += rows;
  }
  return changed;
}

StatusOr<sql::Rows> ManyRows::Query(sql::Transaction& transaction) const {
  sql::Rows all;
  for (const Part& part : Parts()) {
    MUSTER_ASSIGN_OR_RETURN(sql::Rows rows, transaction.Query(part.sql, part.parameters));
    std::move(rows.begin(), rows.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace muster::control
