// What one run of a probe gathers on its way to a result: where the time went, figures, and the
// conversation. One thread, one run; the context must outlive it.
#pragma once

#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "agent/probes/probe.h"
#include "lib/base/status.h"

namespace muster::agent {

inline constexpr size_t kSummaryBytes = 512;
inline constexpr size_t kTranscriptBytes = 4096;
inline constexpr int kMostMetrics = 64;
inline constexpr int kMostPhases = 16;

class Report {
 public:
  explicit Report(const ProbeContext& context);

  // Ends the phase before. `doing` completes "timed out after 5s while …".
  void Begin(std::string_view phase, std::string doing);
  void End();
  // A phase that somebody else has measured.
  void AddPhase(std::string_view phase, absl::Duration took);
  void Doing(std::string doing) { doing_ = std::move(doing); }
  void AddMetric(std::string_view name, double value, std::string_view unit);
  // Lines of the transcript. Secrets must not come here.
  void Sent(std::string_view bytes) { Say("> ", bytes); }
  void Received(std::string_view bytes) { Say("< ", bytes); }
  void Note(std::string_view text) { Say("* ", text); }

  absl::Duration Elapsed() const { return context_.clock.Uptime() - started_; }

  ProbeResult Ok(std::string summary) { return Finish(v1::CHECK_STATUS_OK, std::move(summary)); }
  ProbeResult Warning(std::string summary) {
    return Finish(v1::CHECK_STATUS_WARNING, std::move(summary));
  }
  ProbeResult Critical(std::string summary) {
    return Finish(v1::CHECK_STATUS_CRITICAL, std::move(summary));
  }
  ProbeResult Unknown(std::string summary) {
    return Finish(v1::CHECK_STATUS_UNKNOWN, std::move(summary));
  }
  // OK, or WARNING if the run took longer than `limit`; zero is no limit.
  ProbeResult OkWithin(absl::Duration limit, std::string summary);
  ProbeResult TimedOut();
  // DeadlineExceeded is a time-out, PermissionDenied and InvalidArgument are UNKNOWN, else
  // CRITICAL.
  ProbeResult Failed(const Status& status);
  ProbeResult Finish(v1::CheckStatus status, std::string summary);

 private:
  void Say(std::string_view mark, std::string_view bytes);

  const ProbeContext& context_;
  const absl::Duration started_;
  absl::Duration phase_started_;
  std::string phase_;
  std::string doing_ = "starting";
  std::string transcript_;
  v1::ResultDetail detail_;
};

// Left of the deadline in whole milliseconds, rounded up, at least 0: what poll takes.
int LeftMilliseconds(const ProbeContext& context);

// A result within the bounds of ResultDetail, in valid UTF-8; an OK one without a transcript.
ProbeResult Bounded(ProbeResult result);

}  // namespace muster::agent
