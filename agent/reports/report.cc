#include "agent/reports/report.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr size_t kUuid = 36;
constexpr size_t kVersionAt = 14;
constexpr int kMostOutputs = 256;
constexpr std::array<std::pair<ReportName::Kind, std::string_view>, 3> kSuffixes = {
    {{ReportName::Kind::kStart, ".start"},
     {ReportName::Kind::kRunning, ".running"},
     {ReportName::Kind::kEnd, ".end"}}};

v1::RunEvent EventOf(const Report& report, absl::Time at) {
  v1::RunEvent event;
  event.set_run_id(report.run_id);
  event.set_fence(1);
  *event.mutable_at() = wire::ToProto(at);
  return event;
}

std::vector<v1::RunEvent> EventsOf(const Report& report, std::string_view user, Telling telling) {
  std::vector<v1::RunEvent> events;
  if (telling == Telling::kAll) {
    v1::RunStarted& started = *events.emplace_back(EventOf(report, report.began)).mutable_started();
    started.set_what(report.what);
    started.mutable_reported()->set_job(report.job);
    started.mutable_reported()->set_user(std::string(user));
  }
  if (!report.ended) return events;
  for (const v1::RunOutput& output : report.output) {
    *events.emplace_back(EventOf(report, report.ended_at)).mutable_output() = output;
  }
  *events.emplace_back(EventOf(report, report.ended_at)).mutable_ended() = *report.ended;
  return events;
}

bool IsJob(std::string_view name) {
  return !name.empty() && name.size() <= wire::kMostJobBytes &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") == std::string_view::npos;
}

absl::Time TimeOf(const v1::RunEvent& event, absl::Time now) {
  return std::clamp(wire::FromProto(event.at()), absl::UnixEpoch(), now);
}

// Only what exec says of an end.
v1::RunEnded Tidied(const v1::RunEnded& told) {
  v1::RunEnded ended;
  ended.set_outcome(told.outcome());
  ended.set_reason(OneLine(told.reason()));
  ended.set_exit_code(told.exit_code());
  ended.set_signal(told.signal());
  if (told.has_took()) *ended.mutable_took() = told.took();
  ended.set_dropped_lines(told.dropped_lines());
  return ended;
}

v1::RunOutput Tidied(const v1::RunOutput& told) {
  v1::RunOutput output = told;
  output.set_text(std::string(Truncate(CleanText(told.text()), wire::kMostOutputBytes)));
  return output;
}

Status TakeStart(const v1::RunEvent& event, const ReportName& name, absl::Time now,
                 Report& report) {
  const v1::RunStarted& started = event.started();
  if (event.run_id() != name.run_id) return InvalidArgument("it is of another run than its name");
  if (!IsJob(started.reported().job())) return InvalidArgument("it names no job");
  report.run_id = name.run_id;
  report.job = started.reported().job();
  report.what = std::string(Truncate(OneLine(started.what()), wire::kMostRunText));
  report.began = TimeOf(event, now);
  return OkStatus();
}

}  // namespace

std::string FileName(const ReportName& name) {
  const auto suffix = std::find_if(kSuffixes.begin(), kSuffixes.end(),
                                   [&](const auto& known) { return known.first == name.kind; });
  return name.run_id + std::string(suffix->second);
}

std::optional<ReportName> ParseReportName(std::string_view file) {
  if (file.size() <= kUuid) return std::nullopt;
  const std::string_view id = file.substr(0, kUuid);
  if (!wire::IsUuid(id) || id[kVersionAt] != '4') return std::nullopt;
  for (const auto& [kind, suffix] : kSuffixes)
    if (file.substr(kUuid) == suffix) return ReportName{std::string(id), kind};
  return std::nullopt;
}

std::string Pack(const Report& report) {
  v1::RecordBatch batch;
  for (v1::RunEvent& event : EventsOf(report, "", Telling::kAll))
    *batch.add_others()->mutable_run_event() = std::move(event);
  return batch.SerializeAsString();
}

StatusOr<Report> ReadReport(std::string_view bytes, const ReportName& name, absl::Time now) {
  v1::RecordBatch batch;
  // protobuf would say on stderr what it does not like, as often as anybody wants it to.
  const google::protobuf::LogSilencer silence;
  if (bytes.size() > kMostReportBytes ||
      !batch.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return InvalidArgument("it is no report");
  }
  const int events = batch.others_size();
  const bool ends = name.kind == ReportName::Kind::kEnd;
  if (events < (ends ? 2 : 1) || events > (ends ? kMostOutputs + 2 : 1)) {
    return InvalidArgument("it tells {} things", events);
  }
  Report report;
  MUSTER_RETURN_IF_ERROR(TakeStart(batch.others(0).run_event(), name, now, report));
  if (!ends) return report;
  for (int i = 1; i + 1 < events; ++i)
    report.output.push_back(Tidied(batch.others(i).run_event().output()));
  const v1::RunEvent& last = batch.others(events - 1).run_event();
  if (!last.has_ended()) return InvalidArgument("it does not say how its command ended");
  report.ended = Tidied(last.ended());
  report.ended_at = std::max(report.began, TimeOf(last, now));
  return report;
}

StatusOr<std::vector<v1::Record>> RecordsOf(const Report& report, std::string_view user,
                                            Telling telling) {
  std::vector<v1::Record> records;
  for (v1::RunEvent& event : EventsOf(report, user, telling)) {
    wire::Clip(event);
    v1::Record& record = records.emplace_back();
    record.set_sequence(records.size());
    *record.mutable_run_event() = std::move(event);
  }
  // Whatever the control plane would refuse must not come into the log, which it would hold up.
  MUSTER_ASSIGN_OR_RETURN(const wire::EncodedBatch batch, wire::EncodeBatch(records));
  MUSTER_RETURN_IF_ERROR(wire::DecodeBatch(batch.payload).status());
  for (v1::Record& record : records) record.clear_sequence();
  return records;
}

}  // namespace muster::agent
