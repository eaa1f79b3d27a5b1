// What a run wrote, as the records that tell it: whole lines in UTF-8, gathered, and bounded
// however much it writes. Pure: times are uptime and come as arguments.
//
//   bytes ─► lines ─► waiting (the last 16 KiB) ──allowance──► records
//                        │ oldest first: dropped
//
// The allowance is 256 KiB at once, 64 KiB a second after that, and 1 MiB in all. What it does not
// cover waits; what waits too long is dropped and counted; what waits at the end is told. So the
// first part of a long output is kept, and the last 16 KiB before its end.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "muster/v1/record.pb.h"

namespace muster::agent {

class RunOutputGate {
 public:
  explicit RunOutputGate(absl::Duration now);

  // Bytes as they came from a stream; not always whole lines.
  void Take(v1::RunOutput::Stream stream, std::string_view bytes, absl::Duration now);
  // What is to be told now; lines are gathered for half a second.
  std::vector<v1::RunOutput> Due(absl::Duration now);
  // The end: everything that is left. A last line without an end gets one.
  std::vector<v1::RunOutput> Finish(absl::Duration now);

  uint64_t dropped_lines() const { return dropped_; }

 private:
  struct Line {
    v1::RunOutput::Stream stream;
    uint64_t number;
    std::string text;  // clean, with its newline
  };
  static constexpr size_t kStreams = 4;

  void AddLine(v1::RunOutput::Stream stream, std::string_view text, absl::Duration now);
  void Wait(v1::RunOutput::Stream stream, std::string_view text);
  void Refill(absl::Duration now);
  std::vector<v1::RunOutput> Tell(bool everything);

  std::array<std::string, kStreams> begun_;  // lines that have no end yet
  std::deque<Line> waiting_;
  size_t waiting_bytes_ = 0;
  absl::Duration waiting_since_ = absl::InfiniteDuration();
  uint64_t lines_ = 0;
  uint64_t dropped_ = 0;
  double allowance_;
  size_t left_;  // of all that may be told before the end
  absl::Duration refilled_at_;
};

// Of a run's progress, what is told: only news, and at most once a second.
class ProgressGate {
 public:
  void Take(v1::RunProgress progress);
  // At most one.
  std::vector<v1::RunProgress> Due(absl::Duration now);
  std::vector<v1::RunProgress> Finish();

 private:
  v1::RunProgress newest_;
  std::string told_;  // serialized
  absl::Duration told_at_ = -absl::InfiniteDuration();
};

}  // namespace muster::agent
