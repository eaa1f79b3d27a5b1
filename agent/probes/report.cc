#include "agent/probes/report.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {

Report::Report(const ProbeContext& context)
    : context_(context), started_(context.clock.Uptime()), phase_started_(started_) {}

void Report::Begin(std::string_view phase, std::string doing) {
  End();
  phase_ = phase;
  doing_ = std::move(doing);
  phase_started_ = context_.clock.Uptime();
}

void Report::End() {
  if (!phase_.empty()) AddPhase(phase_, context_.clock.Uptime() - phase_started_);
  phase_.clear();
}

void Report::AddPhase(std::string_view phase, absl::Duration took) {
  if (detail_.phases_size() >= kMostPhases) return;
  v1::Phase& added = *detail_.add_phases();
  added.set_name(std::string(phase));
  *added.mutable_took() = wire::ToProto(std::max(took, absl::ZeroDuration()));
}

void Report::AddMetric(std::string_view name, double value, std::string_view unit) {
  if (detail_.metrics_size() >= kMostMetrics) return;
  v1::Metric& metric = *detail_.add_metrics();
  metric.set_name(std::string(name));
  metric.set_value(value);
  metric.set_unit(std::string(unit));
}

void Report::Say(std::string_view mark, std::string_view bytes) {
  if (transcript_.size() >= kTranscriptBytes) return;
  transcript_.append(mark).append(bytes.substr(0, kTranscriptBytes));
  if (!transcript_.ends_with('\n')) transcript_.push_back('\n');
}

ProbeResult Report::OkWithin(absl::Duration limit, std::string summary) {
  const absl::Duration took = Elapsed();
  if (limit <= absl::ZeroDuration() || took <= limit) return Ok(std::move(summary));
  return Warning(fmt::format("{}, but it took {}, more than {}", summary, ShortDuration(took),
                             DurationText(limit)));
}

ProbeResult Report::TimedOut() {
  // The time-out as the spec has it, but for what went by before the run.
  const absl::Duration allowed = context_.deadline - started_;
  const absl::Duration unit = absl::Milliseconds(allowed < absl::Milliseconds(100) ? 1 : 10);
  return Critical(
      fmt::format("timed out after {} while {}", ShortDuration(absl::Ceil(allowed, unit)), doing_));
}

ProbeResult Report::Failed(const Status& status) {
  if (status.code() == absl::StatusCode::kDeadlineExceeded) return TimedOut();
  const std::string message(Message(status));
  const bool ours = status.code() == absl::StatusCode::kPermissionDenied ||
                    status.code() == absl::StatusCode::kInvalidArgument;
  return ours ? Unknown(message) : Critical(message);
}

ProbeResult Report::Finish(v1::CheckStatus status, std::string summary) {
  End();
  ProbeResult result;
  result.status = status;
  result.detail = detail_;
  result.detail.set_summary(std::move(summary));
  result.detail.set_transcript(transcript_);
  return Bounded(std::move(result));
}

int LeftMilliseconds(const ProbeContext& context) {
  const int64_t left = absl::ToInt64Milliseconds(absl::Ceil(context.Left(), absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
}

ProbeResult Bounded(ProbeResult result) {
  v1::ResultDetail& detail = result.detail;
  const std::string line = OneLine(detail.summary());
  detail.set_summary(std::string(Truncate(Trim(line), kSummaryBytes)));
  if (result.status == v1::CHECK_STATUS_OK) {
    detail.clear_transcript();
  } else {
    detail.set_transcript(std::string(Truncate(CleanText(detail.transcript()), kTranscriptBytes)));
  }
  while (detail.metrics_size() > kMostMetrics) detail.mutable_metrics()->RemoveLast();
  while (detail.phases_size() > kMostPhases) detail.mutable_phases()->RemoveLast();
  return result;
}

}  // namespace muster::agent
