// The log of a run as a terminal shows it. What the run wrote to stdout stands as it is; stderr
// begins with "! ", muster's own notes with "# ", and where lines were not kept, it says how many.
// Control characters never reach the terminal. Pure; one thread at a time.
#pragma once

#include <cstdint>
#include <string>

#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

struct LogStyle {
  bool timestamps = false;
  bool colour = false;
};

class RunLogText {
 public:
  explicit RunLogText(LogStyle style) : style_(style) {}

  // Whole lines, oldest entry first.
  std::string Take(const v1::RunLogEntry& entry);
  // After the last entry: what was dropped behind it, of `dropped` lines of that attempt in all.
  std::string Rest(uint32_t attempt, uint64_t dropped);

 private:
  std::string Hole(uint64_t lines);
  std::string Line(const v1::RunLogEntry& entry, std::string_view text) const;

  const LogStyle style_;
  uint32_t attempt_ = 0;
  uint64_t next_line_ = 1;  // of the attempt
  uint64_t dropped_ = 0;    // of the attempt, that were told
};

}  // namespace muster::ctl
