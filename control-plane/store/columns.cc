#include "control-plane/store/columns.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "control-plane/store/many_rows.h"

namespace muster::control {

std::string PackMap(const std::map<std::string, std::string>& map) {
  return nlohmann::json(map).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::map<std::string, std::string> UnpackMap(const std::string& text) {
  std::map<std::string, std::string> map;
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object()) return map;
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) map[key] = value.get<std::string>();
  }
  return map;
}

StatusOr<int64_t> NextValue(sql::Transaction& transaction, std::string_view counter,
                            int64_t count) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> first,
                          NextValues(transaction, {{counter, count}}));
  return first[0];
}

StatusOr<std::vector<int64_t>> NextValues(sql::Transaction& transaction,
                                          const std::vector<Wanted>& wanted) {
  std::vector<int64_t> first(wanted.size());
  ManyRows rows("INSERT INTO counters (name, value) ", 2,
                "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value "
                "RETURNING name, value");
  for (const auto& [counter, count] : wanted) {
    if (std::find(std::begin(kCounters), std::end(kCounters), counter) == std::end(kCounters))
      return Internal("{} is no counter that a new epoch would move", counter);
    if (count > 0) rows.Add({counter, count});
  }
  if (rows.empty()) return first;
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, rows.Query(transaction));
  for (const sql::Row& row : found) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i].counter == row.Text(0)) first[i] = row.Int(1) - wanted[i].count + 1;
    }
  }
  return first;
}

Status RemoveState(sql::Transaction& transaction, std::string_view agent, int64_t check_id,
                   absl::Time now) {
  constexpr absl::Duration kKeptFor = absl::Hours(7 * 24);
  MUSTER_ASSIGN_OR_RETURN(const int64_t revision, NextValue(transaction, kStateRevision));
  MUSTER_RETURN_IF_ERROR(
      transaction
          .Execute(
              "INSERT INTO removed_states (revision, agent, check_id, at) VALUES ($1, $2, $3, $4)",
              {revision, agent, check_id, sql::ToMicros(now)})
          .status());
  MUSTER_RETURN_IF_ERROR(
      transaction
          .Execute("DELETE FROM removed_states WHERE at < $1", {sql::ToMicros(now - kKeptFor)})
          .status());
  return transaction
      .Execute("DELETE FROM states WHERE agent = $1 AND check_id = $2", {agent, check_id})
      .status();
}

StatusOr<int64_t> LastValue(sql::Transaction& transaction, std::string_view counter) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      transaction.Query("SELECT value FROM counters WHERE name = $1", {counter}));
  return rows.empty() ? 0 : rows[0].Int(0);
}

}  // namespace muster::control
