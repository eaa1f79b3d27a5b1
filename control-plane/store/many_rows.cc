#include "control-plane/store/many_rows.h"

#include <cassert>

namespace muster::control {

void ManyRows::Add(std::initializer_list<sql::Parameter> row) {
  assert(row.size() == columns_);
  parameters_.insert(parameters_.end(), row.begin(), row.end());
}

StatusOr<int64_t> ManyRows::Execute(sql::Transaction& transaction) const {
  return transaction.ExecuteRows(head_, {columns_, parameters_}, tail_);
}

StatusOr<sql::Rows> ManyRows::Query(sql::Transaction& transaction) const {
  return transaction.QueryRows(head_, {columns_, parameters_}, tail_);
}

Status ManyRows::Send(sql::Transaction& transaction, std::optional<int64_t> changes) const {
  return transaction.SendRows(head_, {columns_, parameters_}, tail_, changes);
}

}  // namespace muster::control
