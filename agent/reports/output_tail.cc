#include "agent/reports/output_tail.h"

#include <algorithm>
#include <utility>

#include "lib/base/text.h"
#include "lib/wire/columns.h"

namespace muster::agent {
namespace {

// Clean text is up to three times as long, and still one line of the log.
constexpr size_t kLongestLine = 1024;
static_assert(3 * kLongestLine < wire::kMostOutputBytes);

}  // namespace

void OutputTail::Take(v1::RunOutput::Stream stream, std::string_view bytes) {
  std::string& begun = begun_.at(static_cast<size_t>(stream));
  while (!bytes.empty()) {
    const size_t room = kLongestLine - begun.size();
    const size_t newline = bytes.substr(0, room).find('\n');
    const size_t taken = newline == std::string_view::npos ? std::min(room, bytes.size()) : newline;
    begun += bytes.substr(0, taken);
    const bool ends = newline != std::string_view::npos;
    bytes.remove_prefix(taken + (ends ? 1 : 0));
    if (ends || begun.size() == kLongestLine) AddLine(stream, std::exchange(begun, {}));
  }
}

void OutputTail::AddLine(v1::RunOutput::Stream stream, std::string text) {
  if (text.ends_with('\r')) text.pop_back();
  bytes_ += text.size() + 1;
  lines_.push_back({stream, ++count_, std::move(text)});
  while (bytes_ > kMostBytes || lines_.size() > kMostLines) DropFirst();
}

void OutputTail::DropFirst() {
  bytes_ -= lines_.front().text.size() + 1;
  lines_.pop_front();
  ++dropped_;
}

std::vector<v1::RunOutput> OutputTail::Finish() {
  for (size_t stream = 0; stream < begun_.size(); ++stream) {
    if (begun_[stream].empty()) continue;
    AddLine(static_cast<v1::RunOutput::Stream>(stream), std::exchange(begun_[stream], {}));
  }
  std::vector<v1::RunOutput> told;
  uint64_t last = 0;  // number of the line that was told last
  for (const Line& line : lines_) {
    const std::string text = CleanText(line.text) + "\n";
    const bool follows = !told.empty() && told.back().stream() == line.stream &&
                         line.number == last + 1 &&
                         told.back().text().size() + text.size() <= wire::kMostOutputBytes;
    if (!follows) {
      told.emplace_back().set_stream(line.stream);
      told.back().set_first_line(line.number);
    }
    *told.back().mutable_text() += text;
    last = line.number;
  }
  lines_.clear();
  bytes_ = 0;
  return told;
}

}  // namespace muster::agent
