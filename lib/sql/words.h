// Words of an SQL text that a driver replaces.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

namespace muster::sql {

// The text with every whole word `word` replaced.
inline std::string ReplaceWord(std::string text, std::string_view word, std::string_view by) {
  const auto in_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos;) {
    const size_t end = at + word.size();
    const bool whole =
        (at == 0 || !in_word(text[at - 1])) && (end == text.size() || !in_word(text[end]));
    if (whole) text.replace(at, word.size(), by);
    at += whole ? by.size() : 1;
  }
  return text;
}

// The text without what is meant for other drivers: the lines from "-- only: DRIVER" to "-- end".
inline std::string ForDriver(std::string_view text, std::string_view driver) {
  std::string kept;
  bool ours = true;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    constexpr std::string_view kOnly = "-- only: ";
    if (line.starts_with(kOnly)) ours = line.substr(kOnly.size()) == driver;
    if (line == "-- end") ours = true;
    if (ours) kept.append(line).push_back('\n');
  }
  return kept;
}

}  // namespace muster::sql
