#include "ctl/render/diff.h"

#include <algorithm>
#include <vector>

#include "lib/base/text.h"

namespace muster::ctl {
namespace {

using Lines = std::vector<std::string_view>;

Lines LinesOf(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text.empty() ? Lines() : Split(text, '\n');
}

// common[i][j]: the longest common subsequence of a from i and b from j.
std::vector<std::vector<size_t>> Common(const Lines& a, const Lines& b) {
  std::vector<std::vector<size_t>> common(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = a.size(); i-- > 0;)
    for (size_t j = b.size(); j-- > 0;)
      common[i][j] =
          a[i] == b[j] ? common[i + 1][j + 1] + 1 : std::max(common[i + 1][j], common[i][j + 1]);
  return common;
}

}  // namespace

std::string DiffText(std::string_view name, std::string_view before, std::string_view after) {
  if (before == after) return "";
  const Lines a = LinesOf(before);
  const Lines b = LinesOf(after);
  const auto common = Common(a, b);
  std::string text = fmt::format("--- {} (now)\n+++ {} (after)\n", name, name);
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() || j < b.size()) {
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      text += fmt::format(" {}\n", a[i++]);
      ++j;
    } else if (j == b.size() || (i < a.size() && common[i + 1][j] >= common[i][j + 1])) {
      text += fmt::format("-{}\n", a[i++]);
    } else {
      text += fmt::format("+{}\n", b[j++]);
    }
  }
  return text;
}

}  // namespace muster::ctl
