#include "control-plane/store/columns.h"

#include <nlohmann/json.hpp>

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

StatusOr<int64_t> NextValue(sql::Transaction& transaction, std::string_view counter, int64_t count) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      transaction.Query("INSERT INTO counters (name, value) VALUES ($1, $2) "
                        "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value "
                        "RETURNING value",
                        {counter, count}));
  return rows[0].Int(0) - count + 1;
}

StatusOr<int64_t> LastValue(sql::Transaction& transaction, std::string_view counter) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          transaction.Query("SELECT value FROM counters WHERE name = $1", {counter}));
  return rows.empty() ? 0 : rows[0].Int(0);
}

}  // namespace muster::control
