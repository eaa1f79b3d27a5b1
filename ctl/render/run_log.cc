#include "ctl/render/run_log.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

constexpr int kDim = 2;
constexpr int kRed = 31;

std::string Coloured(const std::string& text, int colour) {
  return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
}

}  // namespace

std::string RunLogText::Take(const v1::RunLogEntry& entry) {
  std::string text;
  if (entry.attempt() != attempt_) {
    if (attempt_ != 0) {
      const std::string note = fmt::format("# attempt {}", entry.attempt());
      text += (style_.colour ? Coloured(note, kDim) : note) + "\n";
    }
    attempt_ = entry.attempt();
    next_line_ = 1;
    dropped_ = 0;
  }
  const v1::RunOutput& output = entry.output();
  if (output.first_line() > next_line_) text += Hole(output.first_line() - next_line_);
  std::string_view rest = output.text();
  uint64_t lines = 0;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    text += Line(entry, rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    ++lines;
  }
  if (output.first_line() > 0) next_line_ = std::max(next_line_, output.first_line() + lines);
  return text;
}

std::string RunLogText::Rest(uint32_t attempt, uint64_t dropped) {
  if (attempt != attempt_ && attempt_ != 0) return "";
  return dropped > dropped_ ? Hole(dropped - dropped_) : "";
}

std::string RunLogText::Hole(uint64_t lines) {
  dropped_ += lines;
  const std::string text =
      lines == 1 ? "… 1 line was not kept" : fmt::format("… {} lines were not kept", lines);
  return (style_.colour ? Coloured(text, kDim) : text) + "\n";
}

std::string RunLogText::Line(const v1::RunLogEntry& entry, std::string_view text) const {
  const std::string time =
      style_.timestamps ? TimeText(wire::FromProto(entry.at())) + " " : std::string();
  const std::string clean = CleanText(text);
  switch (entry.output().stream()) {
    case v1::RunOutput::STREAM_STDERR: {
      const std::string line = time + "! " + clean;
      return (style_.colour ? Coloured(line, kRed) : line) + "\n";
    }
    case v1::RunOutput::STREAM_NOTE: {
      const std::string line = time + "# " + clean;
      return (style_.colour ? Coloured(line, kDim) : line) + "\n";
    }
    default: return time + clean + "\n";
  }
}

}  // namespace muster::ctl
