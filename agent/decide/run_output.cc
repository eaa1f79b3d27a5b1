#include "agent/decide/run_output.h"

#include <algorithm>
#include <utility>

#include "lib/base/text.h"
#include "lib/wire/columns.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kGather = absl::Milliseconds(500);
constexpr absl::Duration kProgressEvery = absl::Seconds(1);
constexpr size_t kMostLine = wire::kMostOutputBytes - 1;  // and its newline
constexpr size_t kMostWaiting = 16 << 10;
constexpr size_t kMostWaitingLines = 16 << 10;
constexpr size_t kMostInAll = 1 << 20;
constexpr double kBurst = 256 << 10;
constexpr double kBytesASecond = 64 << 10;

// The first bytes of `text` that are no broken character at the end of it.
std::string_view WholeCharacters(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t needs = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return needs > back ? text.substr(0, text.size() - back) : text;
  }
  return text;
}

// Nothing that CleanText would change.
bool IsClean(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= ' ' && c < 0x7f) || c == '\t'; });
}

bool Follows(const v1::RunOutput& output, uint64_t lines, v1::RunOutput::Stream stream,
             uint64_t number, size_t bytes) {
  return output.stream() == stream && output.first_line() + lines == number &&
         output.text().size() + bytes <= wire::kMostOutputBytes;
}

}  // namespace

RunOutputGate::RunOutputGate(absl::Duration now)
    : allowance_(kBurst), left_(kMostInAll - kMostWaiting), refilled_at_(now) {}

void RunOutputGate::Take(v1::RunOutput::Stream stream, std::string_view bytes, absl::Duration now) {
  std::string& begun = begun_.at(static_cast<size_t>(stream));
  while (!bytes.empty()) {
    const size_t room = kMostLine - begun.size();
    const size_t newline = bytes.find('\n');
    if (newline <= room && newline != std::string_view::npos) {
      begun += bytes.substr(0, newline);
      if (begun.ends_with('\r')) begun.pop_back();
      AddLine(stream, begun, now);
      begun.clear();
      bytes.remove_prefix(newline + 1);
      continue;
    }
    const size_t taken = std::min(room, bytes.size());
    begun += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    if (begun.size() < kMostLine) continue;
    const std::string_view whole = WholeCharacters(begun);
    AddLine(stream, whole, now);
    begun.erase(0, whole.size());
  }
}

void RunOutputGate::AddLine(v1::RunOutput::Stream stream, std::string_view text,
                            absl::Duration now) {
  if (waiting_.empty()) waiting_since_ = now;
  if (IsClean(text)) {
    Wait(stream, text);
  } else {
    // Bytes that are replaced make a line longer.
    const std::string clean = CleanText(text);
    for (std::string_view rest = clean; !rest.empty();) {
      const std::string_view piece = Truncate(rest, kMostLine);
      Wait(stream, piece);
      rest.remove_prefix(piece.size());
    }
  }
  // While it is within its allowance nothing is dropped for want of a moment to tell it.
  Refill(now);
  const size_t most = std::max(kMostWaiting, std::min(static_cast<size_t>(allowance_), left_));
  while (waiting_bytes_ > most || waiting_.size() > kMostWaitingLines) {
    waiting_bytes_ -= waiting_.front().text.size();
    waiting_.pop_front();
    ++dropped_;
  }
}

void RunOutputGate::Wait(v1::RunOutput::Stream stream, std::string_view text) {
  Line& line = waiting_.emplace_back(Line{stream, ++lines_, ""});
  line.text.reserve(text.size() + 1);
  line.text += text;
  line.text += '\n';
  waiting_bytes_ += line.text.size();
}

void RunOutputGate::Refill(absl::Duration now) {
  const double seconds = absl::ToDoubleSeconds(now - refilled_at_);
  allowance_ = std::min(kBurst, allowance_ + seconds * kBytesASecond);
  refilled_at_ = now;
}

std::vector<v1::RunOutput> RunOutputGate::Due(absl::Duration now) {
  if (waiting_.empty()) return {};
  if (now - waiting_since_ < kGather && waiting_bytes_ < wire::kMostOutputBytes) return {};
  Refill(now);
  std::vector<v1::RunOutput> told = Tell(false);
  waiting_since_ = now;
  return told;
}

std::vector<v1::RunOutput> RunOutputGate::Finish(absl::Duration now) {
  for (size_t stream = 0; stream < kStreams; ++stream) {
    std::string& begun = begun_[stream];
    if (begun.empty()) continue;
    AddLine(static_cast<v1::RunOutput::Stream>(stream), begun, now);
    begun.clear();
  }
  Refill(now);
  std::vector<v1::RunOutput> told = Tell(false);
  for (v1::RunOutput& output : Tell(true)) told.push_back(std::move(output));
  return told;
}

std::vector<v1::RunOutput> RunOutputGate::Tell(bool everything) {
  std::vector<v1::RunOutput> told;
  uint64_t lines = 0;  // of the last record
  while (!waiting_.empty()) {
    const Line& line = waiting_.front();
    const size_t bytes = line.text.size();
    if (!everything && (static_cast<double>(bytes) > allowance_ || bytes > left_)) break;
    allowance_ -= static_cast<double>(bytes);
    left_ -= std::min(left_, bytes);
    if (told.empty() || !Follows(told.back(), lines, line.stream, line.number, bytes)) {
      told.emplace_back().set_stream(line.stream);
      told.back().set_first_line(line.number);
      lines = 0;
    }
    *told.back().mutable_text() += line.text;
    ++lines;
    waiting_bytes_ -= bytes;
    waiting_.pop_front();
  }
  return told;
}

void ProgressGate::Take(v1::RunProgress progress) { newest_ = std::move(progress); }

std::vector<v1::RunProgress> ProgressGate::Due(absl::Duration now) {
  if (now - told_at_ < kProgressEvery) return {};
  std::vector<v1::RunProgress> told = Finish();
  if (!told.empty()) told_at_ = now;
  return told;
}

std::vector<v1::RunProgress> ProgressGate::Finish() {
  std::string bytes = newest_.SerializeAsString();
  if (bytes == told_) return {};
  told_ = std::move(bytes);
  return {newest_};
}

}  // namespace muster::agent
