#include "agent/probes/perfdata.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr size_t kMostFigures = 64;
constexpr size_t kLabelBytes = 128;

struct Unit {
  std::string_view name;
  std::string_view base;
  double factor;
};
constexpr std::array<Unit, 16> kUnits = {{{"", "", 1},
                                          {"s", "s", 1},
                                          {"ms", "s", 1e-3},
                                          {"us", "s", 1e-6},
                                          {"ns", "s", 1e-9},
                                          {"%", "%", 1},
                                          {"c", "c", 1},
                                          {"B", "B", 1},
                                          {"KB", "B", 1024},
                                          {"MB", "B", 1024.0 * 1024},
                                          {"GB", "B", 1024.0 * 1024 * 1024},
                                          {"TB", "B", 1024.0 * 1024 * 1024 * 1024},
                                          {"KiB", "B", 1024},
                                          {"MiB", "B", 1024.0 * 1024},
                                          {"GiB", "B", 1024.0 * 1024 * 1024},
                                          {"TiB", "B", 1024.0 * 1024 * 1024 * 1024}}};

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

void SkipSpace(std::string_view& text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
}

// Up to the '=', which is taken too. A quoted label may hold anything; '' in it is one quote.
std::optional<std::string> TakeLabel(std::string_view& text) {
  std::string label;
  if (!text.starts_with('\'')) {
    size_t end = 0;
    while (end < text.size() && text[end] != '=' && !IsSpace(text[end])) ++end;
    label = std::string(text.substr(0, end));
    text.remove_prefix(end);
  } else {
    text.remove_prefix(1);
    while (!text.empty()) {
      const char c = text.front();
      text.remove_prefix(1);
      if (c == '\'' && !text.starts_with('\'')) break;
      if (c == '\'') text.remove_prefix(1);
      label.push_back(c);
    }
  }
  if (!text.starts_with('=') || label.empty()) return std::nullopt;
  text.remove_prefix(1);
  return std::string(Truncate(OneLine(label), kLabelBytes));
}

// A number with '.' or, from localised plugins, ',' and its unit.
std::optional<Perf> ReadValue(std::string_view token) {
  std::string text(token.substr(0, token.find(';')));
  for (char& c : text) {
    if (c == ',') c = '.';
  }
  Perf perf;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(begin, end, perf.value);
  if (error != std::errc() || !std::isfinite(perf.value)) return std::nullopt;
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  for (const Unit& known : kUnits) {
    if (known.name != unit) continue;
    perf.value *= known.factor;
    perf.unit = known.base;
    if (!std::isfinite(perf.value)) return std::nullopt;
    return perf;
  }
  return perf;  // an unknown unit: the bare number
}

}  // namespace

std::vector<Perf> ParsePerfdata(std::string_view text) {
  std::vector<Perf> figures;
  while (figures.size() < kMostFigures) {
    SkipSpace(text);
    if (text.empty()) break;
    const std::optional<std::string> label = TakeLabel(text);
    size_t end = 0;
    while (end < text.size() && !IsSpace(text[end])) ++end;
    const std::string_view token = text.substr(0, end);
    text.remove_prefix(end);
    if (!label) continue;
    std::optional<Perf> figure = ReadValue(token);
    if (!figure) continue;
    figure->label = *label;
    figures.push_back(std::move(*figure));
  }
  return figures;
}

PluginOutput ParsePluginOutput(std::string_view output) {
  const size_t line_end = output.find('\n');
  const std::string_view first = output.substr(0, line_end);
  const std::string_view rest =
      line_end == std::string_view::npos ? std::string_view() : output.substr(line_end + 1);
  PluginOutput parsed;
  const size_t bar = first.find('|');
  const std::string summary = OneLine(first.substr(0, bar));
  parsed.summary = std::string(Trim(summary));
  std::string perfdata;
  if (bar != std::string_view::npos) perfdata = first.substr(bar + 1);
  const size_t second_bar = rest.find('|');
  if (second_bar != std::string_view::npos) {
    perfdata.append(" ").append(rest.substr(second_bar + 1));
  }
  parsed.figures = ParsePerfdata(perfdata);
  return parsed;
}

}  // namespace muster::agent
