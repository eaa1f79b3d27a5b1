#include "ctl/render/run_meter.h"

#include <algorithm>
#include <cmath>

#include "ctl/render/jobs.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(30);
constexpr absl::Duration kLeast = absl::Seconds(1);
constexpr size_t kBar = 20;

std::string Bar(double part) {
  const size_t full = static_cast<size_t>(part * kBar);
  return fmt::format("[{}{}]  {:.0f}%", std::string(full, '#'), std::string(kBar - full, '.'),
                     std::floor(part * 100));
}

// From its start, or for how long it has been due.
std::string Elapsed(const v1::Run& run, absl::Time now) {
  const absl::Time from = wire::FromProto(run.has_started_at() ? run.started_at() : run.slot());
  if (!run.has_started_at() && !run.has_slot()) return "";
  const absl::Time until = run.has_finished_at() ? wire::FromProto(run.finished_at()) : now;
  return ShortDuration(absl::Trunc(std::max(until - from, absl::ZeroDuration()), absl::Seconds(1)));
}

// The first `width` characters, the last of them … where some are lost.
std::string Cut(const std::string& text, size_t width) {
  size_t characters = 0;
  size_t keep = 0;  // bytes of the first width - 1 characters
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xc0) == 0x80) continue;
    if (characters + 1 == width) keep = i;
    if (++characters > width) return width == 0 ? "" : text.substr(0, keep) + "…";
  }
  return text;
}

}  // namespace

void RunMeter::Take(const v1::Run& run, absl::Time now) {
  const uint64_t done = run.progress().done();
  const bool anew =
      run.attempt() != run_.attempt() || (!samples_.empty() && done < samples_.back().done);
  if (anew) samples_.clear();
  run_ = run;
  if (run.has_progress() && (samples_.empty() || samples_.back().done != done))
    samples_.push_back({now, done});
  while (samples_.size() > 1 && samples_[1].at <= now - kWindow) samples_.pop_front();
}

double RunMeter::Rate(absl::Time now) const {
  if (samples_.size() < 2 || samples_.back().at <= now - kWindow) return 0;
  const absl::Duration span = now - samples_.front().at;
  if (span < kLeast) return 0;
  return static_cast<double>(samples_.back().done - samples_.front().done) /
         absl::ToDoubleSeconds(span);
}

std::string RunMeter::Line(absl::Time now, size_t width) const {
  const v1::RunProgress& progress = run_.progress();
  std::vector<std::string> parts = {StateName(run_.state()), OneLine(run_.agent()),
                                    Elapsed(run_, now)};
  if (run_.attempt() > 1)
    parts.push_back(fmt::format("attempt {} of {}", run_.attempt(), run_.attempts()));
  if (run_.state() == v1::RUN_STATE_RUNNING) {
    const uint64_t done = std::min(progress.done(), progress.total());
    if (progress.total() > 0)
      parts.push_back(Bar(static_cast<double>(done) / static_cast<double>(progress.total())));
    if (progress.unit() != "%") parts.push_back(AmountText(progress));
    const double rate = Rate(now);
    if (rate > 0) parts.push_back(CountText(rate, progress.unit()) + "/s");
    if (rate > 0 && progress.total() > done) {
      const absl::Duration left =
          absl::Seconds(static_cast<double>(progress.total() - done) / rate);
      parts.push_back(ShortDuration(absl::Ceil(left, absl::Seconds(1))) + " left");
    }
    parts.push_back(OneLine(progress.text()));
  } else {
    parts.push_back(OneLine(run_.reason()));
  }
  if (run_.stopping() && !IsOver(run_.state())) parts.emplace_back("asked to end");
  std::erase(parts, "");
  return Cut(fmt::format("{}", fmt::join(parts, "  ")), width);
}

}  // namespace muster::ctl
