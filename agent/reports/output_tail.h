// The last lines that a command wrote, for its report: 8 KiB and 200 lines at most; those before
// are counted. Pure. Of one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "muster/v1/record.pb.h"

namespace muster::agent {

class OutputTail {
 public:
  static constexpr size_t kMostBytes = 8 << 10;
  static constexpr size_t kMostLines = 200;

  // Bytes as they came from a stream; not always whole lines.
  void Take(v1::RunOutput::Stream stream, std::string_view bytes);
  // What is left, in UTF-8 and in the order of their lines; a last line without an end gets one.
  std::vector<v1::RunOutput> Finish();
  uint64_t dropped_lines() const { return dropped_; }

 private:
  struct Line {
    v1::RunOutput::Stream stream;
    uint64_t number;
    std::string text;  // as it came, without its newline
  };
  void AddLine(v1::RunOutput::Stream stream, std::string text);
  void DropFirst();

  std::array<std::string, 4> begun_;  // of each stream, a line that has no end yet
  std::deque<Line> lines_;
  size_t bytes_ = 0;
  uint64_t count_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace muster::agent
