// Tables of JSON objects for people: upper-case headers, columns two spaces apart, aligned by what
// a terminal shows. Control characters never reach the terminal. Pure; any thread may call.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "ctl/render/json.h"

namespace muster::ctl {

enum class Form {
  kText,
  kAge,     // a time as "5m" ago
  kState,   // coloured by its meaning
  kLabels,  // an object as k=v,k=v
  kCount,   // how many elements
  kWords,   // a list as a,b
};

struct Column {
  std::string_view header;
  std::string_view key;
  Form form = Form::kText;
  bool wide = false;  // only with -o wide
};

struct TableStyle {
  absl::Time now;
  bool wide = false;
  bool colour = false;
};

std::string TableText(const std::vector<Column>& columns, const Json& items,
                      const TableStyle& style);
// The state with the colour of its meaning, and what follows it: "MISSED ×12".
std::string Painted(std::string_view state);
// One value as the table shows it, without colour.
std::string CellText(const Json& item, const Column& column, absl::Time now);

// What musterctl knows of a kind of thing that it lists.
struct Kind {
  std::string_view plural;
  std::string_view singular;
  // The key by which -o name calls an item.
  std::string_view name_key;
  std::vector<Column> columns;
  // What the columns show of an item, where that is not its own fields.
  Json (*row)(const Json& item, const TableStyle& style) = nullptr;
};
// The table of a kind's items.
std::string TableOf(const Kind& kind, const Json& items, const TableStyle& style);
const std::vector<Kind>& Kinds();
// By plural or singular, in any case; null when there is none.
const Kind* FindKind(std::string_view word);
// "check/api".
std::string NameText(const Kind& kind, const Json& item);

}  // namespace muster::ctl
