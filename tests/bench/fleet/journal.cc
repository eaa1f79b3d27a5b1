#include "tests/bench/fleet/journal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

namespace muster::bench {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

enum class Kind : uint8_t { kRun = 1, kLog, kConfirm, kRecord, kGap, kAcknowledged };

constexpr uint64_t kMagic = 0x313065656c66756d;  // in each run's first frame

// As many bytes as the file has of it.
struct Bytes {
  uint64_t sequence = 0;
  int64_t second = 0;  // observed_at_us; the last of a gap; successes
  uint32_t log = 0;
  uint32_t check_id = 0;
  Kind kind = Kind::kRun;
  uint8_t status = 0;
  uint16_t text_size = 0;
  uint32_t unused = 0;
};
static_assert(sizeof(Bytes) == 32);

bool Same(const v1::Confirm& a, const v1::Confirm& b) {
  return a.failures() == b.failures() && a.successes() == b.successes();
}

// Puts frames together. Logs are held by number until the next run begins.
class Reader {
 public:
  Status Take(const Bytes& frame, std::string_view text) {
    if (frame.kind == Kind::kRun) return TakeRun();
    if (frame.kind == Kind::kLog) return TakeLog(frame, text);
    if (frame.kind == Kind::kConfirm) return TakeConfirm(frame);
    const auto log = logs_.find(frame.log);
    if (log == logs_.end()) return DataLoss("log {} has no beginning", frame.log);
    return TakeOf(contents_.agents[log->second.agent][log->second.place], frame);
  }
  JournalContents Finish() { return std::move(contents_); }

 private:
  struct Place {
    std::string agent;
    size_t place = 0;
  };

  Status TakeRun() {
    logs_.clear();
    return OkStatus();
  }

  Status TakeLog(const Bytes& frame, std::string_view text) {
    const size_t split = text.find('\n');
    if (split == std::string_view::npos) return DataLoss("a log has no epoch");
    const std::string agent(text.substr(0, split));
    std::vector<JournalledLog>& logs = contents_.agents[agent];
    logs_[frame.log] = {agent, logs.size()};
    logs.push_back({std::string(text.substr(split + 1)), {}, {}, 0});
    return OkStatus();
  }

  Status TakeConfirm(const Bytes& frame) {
    v1::Confirm confirm;
    confirm.set_failures(static_cast<uint32_t>(frame.sequence));
    confirm.set_successes(static_cast<uint32_t>(frame.second));
    const auto [known, is_new] = contents_.confirm.emplace(frame.check_id, confirm);
    if (!is_new && !Same(known->second, confirm)) contents_.changed.push_back(frame.check_id);
    return OkStatus();
  }

  static Status TakeOf(JournalledLog& log, const Bytes& frame) {
    if (frame.kind == Kind::kGap) {
      const auto last = static_cast<uint64_t>(frame.second);
      log.gaps.push_back({frame.sequence, last});
      // A log that begins with a gap has no records of it.
      while (frame.sequence <= last && log.records.size() < last) {
        log.records.push_back({log.records.size() + 1, 0, v1::CHECK_STATUS_UNSPECIFIED, 0});
      }
      return OkStatus();
    }
    if (frame.kind == Kind::kAcknowledged) {
      log.acknowledged = std::max(log.acknowledged, frame.sequence);
      return OkStatus();
    }
    if (frame.kind != Kind::kRecord) return DataLoss("a frame of an unknown kind");
    if (frame.sequence != log.records.size() + 1) {
      return DataLoss("record {} follows {}", frame.sequence, log.records.size());
    }
    log.records.push_back(
        {frame.sequence, frame.check_id, static_cast<v1::CheckStatus>(frame.status), frame.second});
    return OkStatus();
  }

  JournalContents contents_;
  std::map<uint32_t, Place> logs_;
};

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

// The frames from the file's place to its end, or to the one that was cut short. Where they end.
StatusOr<uint64_t> ReadFrames(std::FILE* file,
                              const std::function<Status(const Bytes&, std::string_view)>& take) {
  uint64_t end = 0;
  Bytes frame;
  std::string text;
  while (std::fread(&frame, sizeof frame, 1, file) == 1) {
    const bool begins = frame.kind == Kind::kRun && frame.sequence == kMagic;
    if (end == 0 && !begins) return DataLoss("it is no journal of a fleet");
    text.resize(frame.text_size);
    if (!text.empty() && std::fread(text.data(), text.size(), 1, file) != 1) break;
    MUSTER_RETURN_IF_ERROR(take(frame, text));
    end += sizeof frame + text.size();
  }
  return end;
}

// A run that was killed may have left half a frame: what follows could not be read.
Status CutHalfFrame(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return OkStatus();
  const auto skip = [](const Bytes&, std::string_view) { return OkStatus(); };
  const StatusOr<uint64_t> end = ReadFrames(file.get(), skip);
  if (!end.ok()) return Annotate(end.status(), path);
  if (truncate(path.c_str(), static_cast<off_t>(*end)) == 0) return OkStatus();
  return Unavailable("cannot shorten {}: {}", path, std::strerror(errno));
}

}  // namespace

struct Journal::Frame : Bytes {};

StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path) {
  MUSTER_RETURN_IF_ERROR(CutHalfFrame(path));
  std::FILE* const file = std::fopen(path.c_str(), "abe");
  if (file == nullptr) return Unavailable("cannot write {}: {}", path, std::strerror(errno));
  std::setvbuf(file, nullptr, _IOFBF, kBufferBytes);
  std::unique_ptr<Journal> journal(new Journal(file));
  journal->Put({{.sequence = kMagic, .kind = Kind::kRun}});
  return journal;
}

Journal::~Journal() { std::fclose(file_); }

void Journal::Put(const Frame& frame, std::string_view text) {
  absl::MutexLock lock(&mutex_);
  const auto write = [this](const void* bytes, size_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (size > 0 && std::fwrite(bytes, size, 1, file_) != 1) failed_ = true;
  };
  write(static_cast<const Bytes*>(&frame), sizeof(Bytes));
  write(text.data(), text.size());
}

void Journal::Log(uint32_t log, std::string_view agent, std::string_view epoch) {
  const std::string text = fmt::format("{}\n{}", agent, epoch);
  Put({{.log = log, .kind = Kind::kLog, .text_size = static_cast<uint16_t>(text.size())}}, text);
}

void Journal::Confirm(uint32_t check_id, const v1::Confirm& confirm) {
  Put({{.sequence = confirm.failures(),
        .second = confirm.successes(),
        .check_id = check_id,
        .kind = Kind::kConfirm}});
}

void Journal::Record(uint32_t log, const Journalled& record) {
  Put({{.sequence = record.sequence,
        .second = record.observed_at_us,
        .log = log,
        .check_id = record.check_id,
        .kind = Kind::kRecord,
        .status = static_cast<uint8_t>(record.status)}});
}

void Journal::Gap(uint32_t log, uint64_t first, uint64_t last) {
  Put({{.sequence = first, .second = static_cast<int64_t>(last), .log = log, .kind = Kind::kGap}});
}

void Journal::Acknowledged(uint32_t log, uint64_t sequence) {
  Put({{.sequence = sequence, .log = log, .kind = Kind::kAcknowledged}});
}

Status Journal::Flush() {
  absl::MutexLock lock(&mutex_);
  if (std::fflush(file_) != 0) failed_ = true;
  return failed_ ? Unavailable("the journal could not be written: is the disk full?") : OkStatus();
}

StatusOr<JournalContents> ReadJournal(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return NotFound("cannot read {}: {}", path, std::strerror(errno));
  std::setvbuf(file.get(), nullptr, _IOFBF, kBufferBytes);
  Reader reader;
  const auto take = [&reader](const Bytes& frame, std::string_view text) {
    return reader.Take(frame, text);
  };
  MUSTER_RETURN_IF_ERROR(Annotate(ReadFrames(file.get(), take).status(), path));
  return reader.Finish();
}

}  // namespace muster::bench
