#include "agent/reports/report_taker.h"

#include <charconv>
#include <utility>

#include "agent/reports/user_name.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

// While the disk takes nothing each try costs the log a gap.
constexpr absl::Duration kRest = absl::Seconds(5);
constexpr absl::Duration kComplainEvery = absl::Minutes(1);
constexpr size_t kMostKnownUsers = 1000;

ReportName Named(const ReportName& name, ReportName::Kind kind) { return {name.run_id, kind}; }

// When the host came up; the past if nobody says.
absl::Time BootedAt() {
  const StatusOr<std::string> facts = ReadFile("/proc/stat");
  if (!facts.ok()) return absl::InfinitePast();
  for (const std::string_view line : Split(*facts, '\n')) {
    if (!line.starts_with("btime ")) continue;
    int64_t seconds = 0;
    std::from_chars(line.data() + 6, line.data() + line.size(), seconds);
    return absl::FromUnixSeconds(seconds);
  }
  return absl::InfinitePast();
}

v1::RunEnded Lost(const DroppedFile& file) {
  v1::RunEnded ended;
  ended.set_outcome(v1::RUN_OUTCOME_UNKNOWN);
  ended.set_exit_code(-1);
  ended.set_reason(fmt::format("{}: nobody saw its end", file.changed < BootedAt()
                                                             ? "the host went down while it ran"
                                                             : "muster-agent exec was killed"));
  return ended;
}

}  // namespace

ReportTaker::ReportTaker(DropFolder folder, const Policy& policy, Recorder& recorder,
                         const Clock& clock)
    : folder_(std::move(folder)), policy_(policy), recorder_(recorder), clock_(clock) {}

void ReportTaker::Look() {
  if (clock_.Uptime() < rest_until_) return;
  const StatusOr<std::vector<DroppedFile>> files = folder_.List(clock_.Now());
  if (!files.ok()) {
    LogWarning("reports cannot be looked for", {{"error", files.status()}});
    rest_until_ = clock_.Uptime() + kComplainEvery;
    return;
  }
  if (const uint64_t removed = folder_.TakeRemoved(); removed > 0) {
    LogWarning("removed what is no report, or too much of one user, from the folder of reports",
               {{"files", removed}});
  }
  for (const auto& [user, runs] : RunsByUser(*files)) {
    if (TakeOf(runs)) continue;
    rest_until_ = clock_.Uptime() + kRest;
    return;
  }
}

// In the order in which they came.
std::map<uid_t, std::vector<ReportTaker::Run>> ReportTaker::RunsByUser(
    const std::vector<DroppedFile>& files) const {
  std::map<uid_t, std::vector<Run>> by_user;
  std::map<std::pair<uid_t, std::string>, size_t> places;
  for (const DroppedFile& file : files) {
    std::vector<Run>& runs = by_user[file.user];
    const auto [place, is_new] = places.try_emplace({file.user, file.name.run_id}, runs.size());
    if (is_new) runs.emplace_back();
    Run& run = runs[place->second];
    switch (file.name.kind) {
      case ReportName::Kind::kStart: run.start = file; break;
      case ReportName::Kind::kRunning: run.running = file; break;
      case ReportName::Kind::kEnd: run.end = file; break;
    }
  }
  return by_user;
}

bool ReportTaker::TakeOf(const std::vector<Run>& runs) {
  size_t told = 0;
  for (const Run& run : runs) {
    const Taken taken = Take(run);
    if (taken == Taken::kDiskFull) return false;
    if (taken == Taken::kTold && ++told == kMostAtOnce) break;
  }
  return true;
}

ReportTaker::Taken ReportTaker::Take(const Run& run) {
  if (run.end) return TakeEnd(run);
  if (run.start) return TakeStart(*run.start);
  if (!run.running || folder_.IsHeld(*run.running)) return Taken::kNothing;
  // Its exec has let go of it: after its end, if it came to that.
  if (folder_.Has(Named(run.running->name, ReportName::Kind::kEnd))) return Taken::kNothing;
  return TakeLost(*run.running);
}

ReportTaker::Taken ReportTaker::TakeStart(const DroppedFile& file) {
  if (!told_.contains(file.name.run_id)) {
    const std::optional<Report> report = ReadAllowed(file);
    if (!report) return Taken::kNothing;
    const Taken taken = Tell(file, *report, Telling::kAll);
    if (taken != Taken::kTold) return taken;
    told_.insert(file.name.run_id);
  }
  const Status renamed = folder_.Rename(file.name, Named(file.name, ReportName::Kind::kRunning));
  if (renamed.ok()) told_.erase(file.name.run_id);
  return Taken::kTold;
}

ReportTaker::Taken ReportTaker::TakeEnd(const Run& run) {
  const ReportName& name = run.end->name;
  const std::optional<Report> report = ReadAllowed(*run.end);
  const bool begin_told = run.running.has_value() || told_.contains(name.run_id);
  const Taken taken =
      report ? Tell(*run.end, *report, begin_told ? Telling::kWithoutStart : Telling::kAll)
             : Taken::kNothing;
  if (taken == Taken::kDiskFull || (!report && folder_.Has(name))) return taken;
  told_.erase(name.run_id);
  for (const std::optional<DroppedFile>& file : {run.start, run.running, run.end})
    if (file) folder_.Remove(file->name);
  return taken;
}

ReportTaker::Taken ReportTaker::TakeLost(const DroppedFile& file) {
  std::optional<Report> report = ReadAllowed(file);
  if (!report) return Taken::kNothing;
  report->ended = Lost(file);
  report->ended_at = clock_.Now();
  LogWarning("nobody saw the end of a run of the host",
             {{"run", report->run_id}, {"job", report->job}, {"reason", report->ended->reason()}});
  const Taken taken = Tell(file, *report, Telling::kWithoutStart);
  if (taken == Taken::kTold) folder_.Remove(file.name);
  return taken;
}

std::optional<Report> ReportTaker::ReadAllowed(const DroppedFile& file) {
  const StatusOr<std::string> bytes = folder_.Read(file);
  if (!bytes.ok() && bytes.status().code() != absl::StatusCode::kInvalidArgument) {
    return std::nullopt;  // gone, or to be read another time
  }
  StatusOr<Report> report =
      bytes.ok() ? ReadReport(*bytes, file.name, clock_.Now()) : bytes.status();
  const Status allowed =
      report.ok() ? policy_.AllowReport(UserName(file.user), report->job) : report.status();
  if (allowed.ok()) return *std::move(report);
  Refuse(file, report.ok() ? report->job : "", Message(allowed));
  return std::nullopt;
}

ReportTaker::Taken ReportTaker::Tell(const DroppedFile& file, const Report& report,
                                     Telling telling) {
  StatusOr<std::vector<v1::Record>> records = RecordsOf(report, UserName(file.user), telling);
  if (!records.ok()) {
    Refuse(file, report.job, Message(records.status()));
    return Taken::kNothing;
  }
  const StatusOr<uint64_t> written = recorder_.Write(*std::move(records));
  if (written.ok()) return Taken::kTold;
  LogWarning("a report cannot be written yet", {{"job", report.job}, {"error", written.status()}});
  return Taken::kDiskFull;
}

// Its exec sees that the file is gone, and says so.
void ReportTaker::Refuse(const DroppedFile& file, std::string_view job, std::string_view why) {
  folder_.Remove(file.name);
  if (complained_at_.size() > kMostKnownUsers) complained_at_.clear();
  const auto [last, is_first] = complained_at_.try_emplace(file.user, clock_.Uptime());
  if (!is_first && clock_.Uptime() < last->second + kComplainEvery) return;
  last->second = clock_.Uptime();
  LogWarning("a report is not taken",
             {{"user", UserName(file.user)}, {"job", OneLine(job)}, {"why", why}});
}

const std::string& ReportTaker::UserName(uid_t user) {
  if (users_.size() > kMostKnownUsers) users_.clear();
  std::string& name = users_[user];
  if (name.empty()) name = UserNameOf(user);
  return name;
}

}  // namespace muster::agent
