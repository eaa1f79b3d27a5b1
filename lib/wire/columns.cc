#include "lib/wire/columns.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::wire {
namespace {

constexpr int kZstdLevel = 3;
constexpr size_t kMostReasonableEntries = 1 << 16;
constexpr uint64_t kMostFigure = INT64_MAX;  // what the store's columns hold
constexpr int kMostExitCode = 255;
constexpr int kMostSignal = 64;
constexpr size_t kHashBytes = 32;
constexpr int64_t kLongestRunSeconds = 366 * 86'400;
constexpr int64_t kLatestMicros = 32'503'680'000'000'000;  // the year 3000

uint64_t FirstOf(const v1::Record& record) {
  return record.has_gap() ? record.gap().first() : record.sequence();
}

int64_t Micros(const google::protobuf::Timestamp& time) {
  return absl::ToUnixMicros(FromProto(time));
}

uint32_t LatencyMicros(const v1::CheckResult& result) {
  const int64_t micros = absl::ToInt64Microseconds(FromProto(result.latency()));
  return static_cast<uint32_t>(std::clamp<int64_t>(micros, 0, UINT32_MAX));
}

void AppendResult(const v1::CheckResult& result, int64_t& last_micros, v1::RecordBatch& batch) {
  const int64_t micros = Micros(result.observed_at());
  if (result.has_detail()) {
    batch.add_detail_row(static_cast<uint32_t>(batch.check_id_size()));
    *batch.add_detail() = result.detail();
    Clip(*batch.mutable_detail(batch.detail_size() - 1));
  }
  batch.add_check_id(result.check_id());
  batch.add_observed_at_us(micros - last_micros);
  batch.add_latency_us(LatencyMicros(result));
  batch.mutable_status()->push_back(static_cast<char>(result.status()));
  last_micros = micros;
}

StatusOr<std::string> Compress(const std::string& raw) {
  std::string frame(ZSTD_compressBound(raw.size()), '\0');
  const size_t size = ZSTD_compress(frame.data(), frame.size(), raw.data(), raw.size(), kZstdLevel);
  if (ZSTD_isError(size)) return Internal("zstd: {}", ZSTD_getErrorName(size));
  frame.resize(size);
  return frame;
}

StatusOr<std::string> Decompress(std::string_view frame, size_t limit) {
  const unsigned long long declared = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR || declared == ZSTD_CONTENTSIZE_UNKNOWN) {
    return InvalidArgument("batch is not a zstd frame that declares its size");
  }
  if (declared > limit) {
    return ResourceExhausted("batch of {} bytes before compression; the limit is {}", declared,
                             limit);
  }
  std::string raw(static_cast<size_t>(declared), '\0');
  // One for each thread that ever decodes: to make one takes longer than most batches.
  thread_local const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                                  &ZSTD_freeDCtx);
  const size_t size =
      ZSTD_decompressDCtx(context.get(), raw.data(), raw.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) || size != raw.size())
    return InvalidArgument("batch's zstd frame is damaged");
  return raw;
}

Status CheckDetail(const v1::ResultDetail& detail) {
  if (detail.summary().size() > kMostSummaryBytes) return InvalidArgument("a summary is too long");
  if (detail.transcript().size() > kMostTranscriptBytes) {
    return InvalidArgument("a transcript is too long");
  }
  if (static_cast<size_t>(detail.metrics_size()) > kMostMetrics ||
      static_cast<size_t>(detail.phases_size()) > kMostPhases) {
    return InvalidArgument("a result has too many metrics or phases");
  }
  for (const v1::Metric& metric : detail.metrics()) {
    if (metric.name().size() > kMostNameBytes || metric.unit().size() > kMostNameBytes) {
      return InvalidArgument("a metric's name or unit is too long");
    }
  }
  for (const v1::Phase& phase : detail.phases()) {
    if (phase.name().size() > kMostNameBytes) return InvalidArgument("a phase's name is too long");
  }
  return OkStatus();
}

// Of at most so many bytes, and none of them zero: the store's text holds none.
bool IsText(std::string_view text, size_t most) {
  return text.size() <= most && text.find('\0') == std::string_view::npos;
}

bool IsTime(const google::protobuf::Timestamp& time) {
  return time.seconds() >= 0 && time.seconds() < kLatestMicros / 1'000'000 && time.nanos() >= 0 &&
         time.nanos() < 1'000'000'000;
}

Status CheckStarted(const v1::RunStarted& started) {
  if (!IsText(started.what(), kMostRunText)) {
    return InvalidArgument("what a run does is told too long");
  }
  const v1::ReportedRun& reported = started.reported();
  if (IsText(reported.job(), kMostJobBytes) && IsText(reported.user(), kMostUserBytes)) {
    return OkStatus();
  }
  return InvalidArgument("a run is reported of a job or a user that cannot be");
}

Status CheckProgress(const v1::RunProgress& progress) {
  if (!IsText(progress.unit(), kMostUnitBytes) || !IsText(progress.text(), kMostRunText)) {
    return InvalidArgument("a run's progress has a text that is too long");
  }
  if (std::max(progress.done(), progress.total()) > kMostFigure) {
    return InvalidArgument("a run's progress has a figure that cannot be");
  }
  return OkStatus();
}

Status CheckOutput(const v1::RunOutput& output) {
  if (output.text().empty() || !IsText(output.text(), kMostOutputBytes)) {
    return InvalidArgument("a run's output is empty or too long");
  }
  if (output.stream() < v1::RunOutput::STREAM_STDOUT ||
      output.stream() > v1::RunOutput::STREAM_NOTE || output.first_line() == 0 ||
      output.first_line() > kMostFigure) {
    return InvalidArgument("a run's output has a stream or a line that cannot be");
  }
  return OkStatus();
}

Status CheckEnded(const v1::RunEnded& ended) {
  if (ended.outcome() < v1::RUN_OUTCOME_SUCCEEDED || ended.outcome() > v1::RUN_OUTCOME_UNKNOWN) {
    return InvalidArgument("a run ended with outcome {}, which there is not",
                           static_cast<int>(ended.outcome()));
  }
  if (!IsText(ended.reason(), kMostRunText)) return InvalidArgument("a run's reason is too long");
  const int64_t seconds = ended.took().seconds();
  if (ended.exit_code() < -1 || ended.exit_code() > kMostExitCode || ended.signal() < 0 ||
      ended.signal() > kMostSignal || ended.dropped_lines() > kMostFigure || seconds < 0 ||
      seconds > kLongestRunSeconds || ended.took().nanos() < 0 ||
      ended.took().nanos() >= 1'000'000'000) {
    return InvalidArgument("a run ended with a figure that cannot be");
  }
  if (static_cast<size_t>(ended.metrics_size()) > kMostMetrics) {
    return InvalidArgument("a run has too many metrics");
  }
  for (const v1::Metric& metric : ended.metrics()) {
    if (!IsText(metric.name(), kMostNameBytes) || !IsText(metric.unit(), kMostNameBytes)) {
      return InvalidArgument("a metric's name or unit is too long");
    }
  }
  return OkStatus();
}

bool IsHash(std::string_view bytes) { return bytes.empty() || bytes.size() == kHashBytes; }

bool IsDuration(const google::protobuf::Duration& duration) {
  return duration.seconds() >= 0 && duration.seconds() <= kLongestRunSeconds &&
         duration.nanos() >= 0 && duration.nanos() < 1'000'000'000;
}

Status CheckBackup(const v1::Backup& backup) {
  if (!IsRepositoryId(backup.repository_id()) || !IsSnapshotId(backup.snapshot_id()) ||
      (!backup.prior_id().empty() && !IsBackupLabel(backup.prior_id()))) {
    return InvalidArgument("a backup has no id of its repository or snapshot");
  }
  if (backup.engine() < v1::BACKUP_ENGINE_POSTGRES_DUMP ||
      backup.engine() > v1::BACKUP_ENGINE_PGBACKREST || backup.proof() < v1::BACKUP_PROOF_TAKEN ||
      backup.proof() > v1::BACKUP_PROOF_RESTORED) {
    return InvalidArgument("a backup has an engine or a proof that there is not");
  }
  for (const std::string* text : {&backup.repository(), &backup.source(), &backup.problem()}) {
    if (!IsText(*text, kMostRunText)) return InvalidArgument("a text of a backup is too long");
  }
  for (const std::string* name : {&backup.system_identifier(), &backup.database(),
                                  &backup.server_version(), &backup.client_version()}) {
    if (!IsText(*name, kMostNameBytes)) return InvalidArgument("a name of a backup is too long");
  }
  if (static_cast<size_t>(backup.tables_size()) > kMostTables) {
    return InvalidArgument("a backup tells of more than {} tables", kMostTables);
  }
  for (const v1::TableRows& table : backup.tables()) {
    if (!IsText(table.table(), kMostNameBytes) || table.rows() > kMostFigure) {
      return InvalidArgument("a table of a backup has a name or a figure that cannot be");
    }
  }
  for (const uint64_t figure : {backup.source_bytes(), backup.stored_bytes(), backup.files(),
                                backup.table_count(), backup.row_count(), backup.key_count()}) {
    if (figure > kMostFigure) return InvalidArgument("a backup has a figure that cannot be");
  }
  if (!IsTime(backup.taken_at()) || !IsTime(backup.proven_at()) ||
      !IsTime(backup.recoverable_until()) || !IsDuration(backup.took()) ||
      !IsDuration(backup.restore_took()) || !IsHash(backup.manifest_hash())) {
    return InvalidArgument("a backup has a time or a hash that cannot be");
  }
  return OkStatus();
}

Status CheckRestore(const v1::Restore& restore) {
  if (IsRepositoryId(restore.repository_id()) && IsSnapshotId(restore.snapshot_id()) &&
      IsText(restore.target(), kMostRunText) && restore.bytes() <= kMostFigure &&
      IsDuration(restore.took())) {
    return OkStatus();
  }
  return InvalidArgument("a restore is told of with a text or a figure that cannot be");
}

Status CheckForgotten(const v1::BackupsForgotten& forgotten) {
  if (IsRepositoryId(forgotten.repository_id()) &&
      static_cast<size_t>(forgotten.snapshot_ids_size()) <= kMostForgotten &&
      std::all_of(forgotten.snapshot_ids().begin(), forgotten.snapshot_ids().end(), IsSnapshotId)) {
    return OkStatus();
  }
  return InvalidArgument("backups are told to be forgotten by ids that cannot be");
}

Status CheckArtifact(const v1::RunArtifact& artifact) {
  switch (artifact.artifact_case()) {
    case v1::RunArtifact::kBackup: return CheckBackup(artifact.backup());
    case v1::RunArtifact::kRestore: return CheckRestore(artifact.restore());
    case v1::RunArtifact::kForgotten: return CheckForgotten(artifact.forgotten());
    case v1::RunArtifact::ARTIFACT_NOT_SET: break;
  }
  return InvalidArgument("what a run made is of an unknown kind");
}

Status CheckRunEvent(const v1::RunEvent& event) {
  if (!IsUuid(event.run_id()) || event.fence() == 0 || event.fence() > kMostFigure) {
    return InvalidArgument("a run's event names no attempt of a run");
  }
  if (!IsTime(event.at())) return InvalidArgument("a run's event has a time that cannot be");
  switch (event.event_case()) {
    case v1::RunEvent::kStarted: return CheckStarted(event.started());
    case v1::RunEvent::kProgress: return CheckProgress(event.progress());
    case v1::RunEvent::kOutput: return CheckOutput(event.output());
    case v1::RunEvent::kEnded: return CheckEnded(event.ended());
    case v1::RunEvent::kArtifact: return CheckArtifact(event.artifact());
    case v1::RunEvent::EVENT_NOT_SET: break;
  }
  return InvalidArgument("a run's event is of an unknown kind");
}

Status CheckShape(const v1::RecordBatch& batch, const BatchLimits& limits) {
  const size_t rows = static_cast<size_t>(batch.check_id_size());
  if (batch.count() == 0 || batch.count() > limits.entries ||
      batch.count() > kMostReasonableEntries) {
    return ResourceExhausted("batch of {} entries; 1 to {} are allowed", batch.count(),
                             limits.entries);
  }
  if (static_cast<size_t>(batch.observed_at_us_size()) != rows || batch.status().size() != rows ||
      static_cast<size_t>(batch.latency_us_size()) != rows) {
    return InvalidArgument("batch's columns differ in length");
  }
  if (batch.detail_row_size() != batch.detail_size()) {
    return InvalidArgument("batch's details and their rows differ in number");
  }
  if (rows + static_cast<size_t>(batch.others_size()) != batch.count()) {
    return InvalidArgument("batch says {} entries and holds {}", batch.count(),
                           rows + static_cast<size_t>(batch.others_size()));
  }
  if (batch.first_sequence() == 0 || batch.first_sequence() > UINT64_MAX / 4) {
    return InvalidArgument("batch begins at a sequence that cannot be");
  }
  return OkStatus();
}

// Gives rows and other entries their sequences back.
class Unpacker {
 public:
  explicit Unpacker(v1::RecordBatch& batch) : batch_(batch), next_(batch.first_sequence()) {}

  StatusOr<DecodedBatch> Unpack() {
    decoded_.span.first = batch_.first_sequence();
    decoded_.results.reserve(static_cast<size_t>(batch_.check_id_size()));
    decoded_.others.reserve(static_cast<size_t>(batch_.others_size()));
    while (row_ < batch_.check_id_size() || other_ < batch_.others_size()) {
      const bool other = other_ < batch_.others_size() && FirstOf(batch_.others(other_)) == next_;
      if (!other && row_ >= batch_.check_id_size()) {
        return InvalidArgument("an entry of the batch is out of order");
      }
      MUSTER_RETURN_IF_ERROR(other ? TakeOther() : TakeRow());
    }
    if (detail_ != batch_.detail_size()) {
      return InvalidArgument("a detail of the batch belongs to no result");
    }
    decoded_.span.last = next_ - 1;
    // The details stay where they are; only who owns them changes.
    decoded_.details = std::move(*batch_.mutable_detail());
    return std::move(decoded_);
  }

 private:
  Status TakeOther() {
    v1::Record record = std::move(*batch_.mutable_others(other_++));
    if (record.has_gap()) {
      const v1::Gap& gap = record.gap();
      if (gap.last() < gap.first() || gap.last() != record.sequence() ||
          gap.last() > UINT64_MAX / 2) {
        return InvalidArgument("a gap of the batch has a range that cannot be");
      }
      next_ = gap.last() + 1;
    } else {
      MUSTER_RETURN_IF_ERROR(CheckOther(record));
      ++next_;
    }
    decoded_.others.push_back(std::move(record));
    return OkStatus();
  }

  static Status CheckOther(const v1::Record& record) {
    if (record.has_run_event()) return CheckRunEvent(record.run_event());
    if (record.has_plan_taken() && record.plan_taken().plan_hash().size() <= 64) return OkStatus();
    return InvalidArgument("an entry of the batch is of an unknown kind");
  }

  Status TakeRow() {
    const auto status = static_cast<unsigned char>(batch_.status()[static_cast<size_t>(row_)]);
    if (status < v1::CHECK_STATUS_OK || status > v1::CHECK_STATUS_UNKNOWN) {
      return InvalidArgument("a result has status {}, which no probe returns", status);
    }
    // Wrapping on purpose: what a hostile batch adds up to is checked below.
    micros_ = static_cast<int64_t>(static_cast<uint64_t>(micros_) +
                                   static_cast<uint64_t>(batch_.observed_at_us(row_)));
    if (micros_ < 0 || micros_ > kLatestMicros) {
      return InvalidArgument("a result was observed at a time that cannot be");
    }
    ResultRow& result = decoded_.results.emplace_back();
    result.sequence = next_++;
    result.check_id = batch_.check_id(row_);
    result.observed_at = absl::FromUnixMicros(micros_);
    result.latency = absl::Microseconds(batch_.latency_us(row_));
    result.status = static_cast<v1::CheckStatus>(status);
    MUSTER_RETURN_IF_ERROR(TakeDetail(result));
    ++row_;
    return OkStatus();
  }

  Status TakeDetail(ResultRow& result) {
    if (detail_ == batch_.detail_size()) return OkStatus();
    const uint32_t row = batch_.detail_row(detail_);
    if (row < static_cast<uint32_t>(row_) || row >= static_cast<uint32_t>(batch_.check_id_size())) {
      return InvalidArgument("a detail of the batch belongs to no result");
    }
    if (row != static_cast<uint32_t>(row_)) return OkStatus();
    result.detail = &batch_.detail(detail_++);
    return CheckDetail(*result.detail);
  }

  v1::RecordBatch& batch_;
  DecodedBatch decoded_;
  uint64_t next_;
  int row_ = 0;
  int detail_ = 0;
  int other_ = 0;
  int64_t micros_ = 0;
};

v1::Record ToRecord(const ResultRow& row) {
  v1::Record record;
  record.set_sequence(row.sequence);
  v1::CheckResult& result = *record.mutable_result();
  result.set_check_id(row.check_id);
  *result.mutable_observed_at() = ToProto(row.observed_at);
  *result.mutable_latency() = ToProto(row.latency);
  result.set_status(row.status);
  if (row.detail != nullptr) *result.mutable_detail() = *row.detail;
  return record;
}

void Cut(std::string& text, size_t bytes) {
  if (text.size() > bytes) text = std::string(Truncate(text, bytes));
}

// As Cut, and without zero bytes.
void CutText(std::string& text, size_t bytes) {
  Cut(text, bytes);
  std::replace(text.begin(), text.end(), '\0', ' ');
}

void ClipMetrics(google::protobuf::RepeatedPtrField<v1::Metric>& metrics) {
  while (static_cast<size_t>(metrics.size()) > kMostMetrics) metrics.RemoveLast();
  for (v1::Metric& metric : metrics) {
    CutText(*metric.mutable_name(), kMostNameBytes);
    CutText(*metric.mutable_unit(), kMostNameBytes);
  }
}

void ClipEnded(v1::RunEnded& ended) {
  CutText(*ended.mutable_reason(), kMostRunText);
  ended.set_exit_code(std::clamp(ended.exit_code(), -1, kMostExitCode));
  ended.set_signal(std::clamp(ended.signal(), 0, kMostSignal));
  const absl::Duration longest = absl::Seconds(kLongestRunSeconds);
  *ended.mutable_took() =
      ToProto(std::clamp(FromProto(ended.took()), absl::ZeroDuration(), longest));
  ClipMetrics(*ended.mutable_metrics());
}

void ClipStarted(v1::RunStarted& started) {
  CutText(*started.mutable_what(), kMostRunText);
  if (!started.has_reported()) return;
  CutText(*started.mutable_reported()->mutable_job(), kMostJobBytes);
  CutText(*started.mutable_reported()->mutable_user(), kMostUserBytes);
}

void ClipDuration(google::protobuf::Duration& duration) {
  duration = ToProto(
      std::clamp(FromProto(duration), absl::ZeroDuration(), absl::Seconds(kLongestRunSeconds)));
}

void ClipBackup(v1::Backup& backup) {
  CutText(*backup.mutable_repository(), kMostRunText);
  CutText(*backup.mutable_source(), kMostRunText);
  CutText(*backup.mutable_problem(), kMostRunText);
  CutText(*backup.mutable_system_identifier(), kMostNameBytes);
  CutText(*backup.mutable_database(), kMostNameBytes);
  CutText(*backup.mutable_server_version(), kMostNameBytes);
  CutText(*backup.mutable_client_version(), kMostNameBytes);
  if (static_cast<size_t>(backup.tables_size()) > kMostTables) backup.clear_tables();
  for (v1::TableRows& table : *backup.mutable_tables())
    CutText(*table.mutable_table(), kMostNameBytes);
  if (backup.has_took()) ClipDuration(*backup.mutable_took());
  if (backup.has_restore_took()) ClipDuration(*backup.mutable_restore_took());
}

void ClipArtifact(v1::RunArtifact& artifact) {
  if (artifact.has_backup()) ClipBackup(*artifact.mutable_backup());
  if (!artifact.has_restore()) return;
  CutText(*artifact.mutable_restore()->mutable_target(), kMostRunText);
  ClipDuration(*artifact.mutable_restore()->mutable_took());
}

}  // namespace

void Clip(v1::ResultDetail& detail) {
  Cut(*detail.mutable_summary(), kMostSummaryBytes);
  Cut(*detail.mutable_transcript(), kMostTranscriptBytes);
  ClipMetrics(*detail.mutable_metrics());
  while (static_cast<size_t>(detail.phases_size()) > kMostPhases)
    detail.mutable_phases()->RemoveLast();
  for (v1::Phase& phase : *detail.mutable_phases()) Cut(*phase.mutable_name(), kMostNameBytes);
}

void Clip(v1::RunEvent& event) {
  if (event.has_started()) ClipStarted(*event.mutable_started());
  if (event.has_output()) CutText(*event.mutable_output()->mutable_text(), kMostOutputBytes);
  if (event.has_progress()) {
    v1::RunProgress& progress = *event.mutable_progress();
    CutText(*progress.mutable_unit(), kMostUnitBytes);
    CutText(*progress.mutable_text(), kMostRunText);
    progress.set_done(std::min(progress.done(), kMostFigure));
    progress.set_total(std::min(progress.total(), kMostFigure));
  }
  if (event.has_ended()) ClipEnded(*event.mutable_ended());
  if (event.has_artifact()) ClipArtifact(*event.mutable_artifact());
}

bool IsUuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (dash ? c != '-' : !digit) return false;
  }
  return true;
}

StatusOr<EncodedBatch> EncodeBatch(const std::vector<v1::Record>& records) {
  if (records.empty()) return InvalidArgument("a batch needs at least one record");
  v1::RecordBatch batch;
  uint64_t next = FirstOf(records.front());
  batch.set_first_sequence(next);
  batch.set_count(static_cast<uint32_t>(records.size()));
  int64_t last_micros = 0;
  for (const v1::Record& record : records) {
    if (FirstOf(record) != next) {
      return InvalidArgument("record {} does not follow {}", FirstOf(record), next - 1);
    }
    next = record.sequence() + 1;
    if (record.has_result()) {
      AppendResult(record.result(), last_micros, batch);
    } else {
      v1::Record& other = *batch.add_others();
      other = record;
      if (other.has_run_event()) Clip(*other.mutable_run_event());
    }
  }
  MUSTER_ASSIGN_OR_RETURN(std::string payload, Compress(batch.SerializeAsString()));
  return EncodedBatch{{batch.first_sequence(), next - 1}, std::move(payload)};
}

std::vector<v1::Record> DecodedBatch::Records() const {
  std::vector<v1::Record> records;
  records.reserve(results.size() + others.size());
  auto other = others.begin();
  for (const ResultRow& result : results) {
    for (; other != others.end() && other->sequence() < result.sequence; ++other) {
      records.push_back(*other);
    }
    records.push_back(ToRecord(result));
  }
  records.insert(records.end(), other, others.end());
  return records;
}

StatusOr<DecodedBatch> DecodeBatch(std::string_view payload, const BatchLimits& limits) {
  MUSTER_ASSIGN_OR_RETURN(const std::string raw, Decompress(payload, limits.raw_bytes));
  v1::RecordBatch batch;
  if (!batch.ParseFromString(raw)) return InvalidArgument("batch is not a RecordBatch message");
  MUSTER_RETURN_IF_ERROR(CheckShape(batch, limits));
  return Unpacker(batch).Unpack();
}

}  // namespace muster::wire
