#include "ctl/render/describe.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::ctl {
namespace {

// "lastSeenAt" as "Last Seen At".
std::string Title(std::string_view key) {
  std::string title;
  for (const char c : key) {
    const bool capital = c >= 'A' && c <= 'Z';
    if (capital) title += ' ';
    title += title.empty() && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return title;
}

std::string Indented(std::string_view text) {
  std::string indented;
  for (const std::string_view line : Split(text, '\n'))
    if (!line.empty()) indented += fmt::format("  {}\n", line);
  return indented;
}

std::string Below(const Json& value) {
  if (value.is_object()) return Indented(FieldsText(value));
  std::string text;
  for (const Json& part : value) {
    const std::string item = part.is_structured() ? FieldsText(part) : CellText(Json{{"v", part}}, {"", "v"}, {}) + "\n";
    std::string indented = Indented(Indented(item));
    if (indented.size() > 2) indented[2] = '-';
    text += indented;
  }
  return text;
}

size_t LabelWidth(const Json& object) {
  size_t width = 0;
  for (const auto& [key, value] : object.items())
    if (!value.is_structured() || value.empty()) width = std::max(width, Title(key).size());
  return width;
}

std::string Section(std::string_view title, const std::vector<Column>& columns, const Json& items,
                    const TableStyle& style) {
  if (items.empty()) return fmt::format("\n{}: none\n", title);
  return fmt::format("\n{}:\n{}", title, Indented(TableText(columns, items, style)));
}

}  // namespace

std::string FieldsText(const Json& object) {
  const size_t width = LabelWidth(object) + 1;
  std::string text;
  for (const auto& [key, value] : object.items()) {
    if (value.is_structured() && !value.empty())
      text += fmt::format("{}:\n{}", Title(key), Below(value));
    else
      text += fmt::format("{:<{}}  {}\n", Title(key) + ":", width,
                          value.is_structured() ? "-" : CellText(Json{{"v", value}}, {"", "v"}, {}));
  }
  return text;
}

std::string AlertText(const Json& explained, const TableStyle& style) {
  return FieldsText(explained.value("alert", Json::object())) +
         Section("Events", {{"AT", "at"}, {"WHAT", "what"}, {"REASON", "reason"}}, explained.at("events"), style) +
         Section("Deliveries", {{"RECEIVER", "receiver"}, {"EVENT", "event"}, {"STATE", "state"},
                                {"ATTEMPTS", "attempts"}, {"DELIVERED", "deliveredAt"},
                                {"NEXT ATTEMPT", "nextAttemptAt"}, {"LAST ERROR", "lastError"}},
                 explained.at("deliveries"), style);
}

}  // namespace muster::ctl
