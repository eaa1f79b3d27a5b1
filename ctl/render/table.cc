#include "ctl/render/table.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::ctl {
namespace {

std::string AgeText(const Json& value, absl::Time now) {
  if (!value.is_string()) return "never";
  const auto time = ParseTime(value.get<std::string>());
  if (!time.ok()) return value.get<std::string>();
  const absl::Duration age = now - *time;
  return ShortDuration(age < absl::Seconds(1) ? absl::ZeroDuration()
                                              : absl::Trunc(age, absl::Seconds(1)));
}

std::string ScalarText(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return OneLine(value.get<std::string>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string LabelsText(const Json& value) {
  std::string text;
  if (!value.is_object()) return text;
  for (const auto& [key, part] : value.items())
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", OneLine(key), ScalarText(part));
  return text;
}

const Json& At(const Json& item, std::string_view key) {
  static const Json none;
  const auto found = item.find(std::string(key));
  return found == item.end() ? none : *found;
}

// What a terminal shows: every character that is not a continuation byte.
size_t Width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

struct Cell {
  std::string plain;
  std::string shown;
};

std::vector<Column> Shown(const std::vector<Column>& columns, bool wide) {
  std::vector<Column> shown;
  for (const Column& column : columns)
    if (wide || !column.wide) shown.push_back(column);
  return shown;
}

std::vector<Cell> HeaderRow(const std::vector<Column>& columns) {
  std::vector<Cell> row;
  for (const Column& column : columns)
    row.push_back({std::string(column.header), std::string(column.header)});
  return row;
}

std::vector<Cell> Row(const std::vector<Column>& columns, const Json& item,
                      const TableStyle& style) {
  std::vector<Cell> row;
  for (const Column& column : columns) {
    const std::string text = CellText(item, column, style.now);
    row.push_back({text, style.colour && column.form == Form::kState ? Painted(text) : text});
  }
  return row;
}

std::string Joined(const std::vector<std::vector<Cell>>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i].plain));
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i].shown;
      if (i + 1 < row.size()) text += std::string(widths[i] - Width(row[i].plain) + 2, ' ');
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

}  // namespace

std::string Painted(std::string_view text) {
  constexpr std::pair<int, std::string_view> kColours[] = {
      {32, "OK"},        {32, "RESOLVED"},  {32, "SUCCEEDED"}, {33, "WARNING"}, {33, "PENDING"},
      {33, "MISSED"},    {33, "CANCELLED"}, {31, "CRITICAL"},  {31, "FIRING"},  {31, "FAILED"},
      {31, "TIMED_OUT"}, {35, "UNKNOWN"},   {35, "NO_DATA"},   {36, "RUNNING"}};
  const std::string_view state = text.substr(0, text.find(' '));
  for (const auto& [colour, name] : kColours)
    if (state == name) return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
  return std::string(text);
}

std::string CellText(const Json& item, const Column& column, absl::Time now) {
  const Json& value = At(item, column.key);
  const bool missing = value.is_null() || (value.is_string() && value.get<std::string>().empty());
  switch (column.form) {
    case Form::kAge: return AgeText(value, now);
    case Form::kCount: return fmt::format("{}", value.is_array() ? value.size() : 0);
    case Form::kLabels: {
      std::string text = LabelsText(value);
      return text.empty() ? "-" : text;
    }
    case Form::kWords: {
      std::string text;
      for (const Json& word : value) text += (text.empty() ? "" : ",") + ScalarText(word);
      return text.empty() ? "-" : text;
    }
    case Form::kText:
    case Form::kState: break;
  }
  return missing ? "-" : ScalarText(value);
}

std::string TableOf(const Kind& kind, const Json& items, const TableStyle& style) {
  if (kind.row == nullptr) return TableText(kind.columns, items, style);
  Json rows = Json::array();
  for (const Json& item : items) rows.push_back(kind.row(item, style));
  return TableText(kind.columns, rows, style);
}

std::string TableText(const std::vector<Column>& columns, const Json& items,
                      const TableStyle& style) {
  const std::vector<Column> shown = Shown(columns, style.wide);
  std::vector<std::vector<Cell>> rows = {HeaderRow(shown)};
  for (const Json& item : items) rows.push_back(Row(shown, item, style));
  return Joined(rows);
}

}  // namespace muster::ctl
