#include "agent/jobs/run_journal.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "lib/base/log.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr std::string_view kSchema = R"sql(
create table attempts (
  run_id       text   not null,
  fence        bigint not null,
  state        bigint not null,
  at           bigint not null,
  pid          bigint not null default 0,
  started      bigint not null default 0,
  boot_id      text   not null default '',
  step         text   not null default '',
  body         BYTES,
  log_epoch    text   not null default '',
  log_sequence bigint not null default 0,
  primary key (run_id, fence)
);
create table meta (key text primary key, value text not null);
)sql";

// As rows hold them: 1 begun, 2 ended, 3 told.
constexpr int64_t kBegun = 1;
constexpr int64_t kEnded = 2;

constexpr std::string_view kColumns =
    "select run_id, fence, at, pid, started, boot_id, step, body, log_epoch, log_sequence "
    "from attempts where ";
constexpr std::string_view kInsertBegun =
    "insert into attempts (run_id, fence, state, at) values ($1, $2, 1, $3)";
constexpr std::string_view kUpdateEnded =
    "update attempts set state = 2, at = $3, body = $4, log_epoch = $5, log_sequence = $6 "
    "where run_id = $1 and fence = $2 and state = 1";
constexpr std::string_view kInsertEnded =
    "insert into attempts (run_id, fence, state, at, body, log_epoch, log_sequence) "
    "values ($1, $2, 2, $3, $4, $5, $6) on conflict (run_id, fence) do nothing";

constexpr std::string_view kSmallCache = "pragma cache_size = -256";
constexpr std::string_view kSmallWal = "pragma wal_autocheckpoint = 64";

constexpr absl::Duration kKeep = absl::Hours(24 * 7);

int64_t Signed(uint64_t number) { return static_cast<int64_t>(number); }
uint64_t Unsigned(int64_t number) { return static_cast<uint64_t>(number); }

RunJournal::State StateOf(int64_t number) {
  switch (number) {
    case kBegun: return RunJournal::State::kBegun;
    case kEnded: return RunJournal::State::kEnded;
    default: return RunJournal::State::kTold;
  }
}

JournalEntry ReadRow(const sql::Row& row) {
  JournalEntry entry;
  entry.key = {row.Text(0), Unsigned(row.Int(1))};
  entry.at = row.Time(2);
  if (row.Int(3) != 0) {
    entry.process = ProcessMark{static_cast<pid_t>(row.Int(3)), Unsigned(row.Int(4)), row.Text(5)};
  }
  entry.step = row.Text(6);
  if (v1::RunEvent end; !row.IsNull(7) && end.ParseFromString(row.Text(7))) entry.end = end;
  entry.log = {row.Text(8), Unsigned(row.Int(9))};
  return entry;
}

}  // namespace

StatusOr<std::unique_ptr<RunJournal>> RunJournal::Open(std::string path) {
  std::unique_ptr<RunJournal> journal(new RunJournal(std::move(path)));
  absl::MutexLock lock(&journal->file_mutex_);
  Status opened = journal->OpenFile();
  if (absl::IsDataLoss(opened)) opened = journal->ReplaceDamaged(opened);
  if (!opened.ok()) return Annotate(opened, "open the journal of runs " + journal->path_);
  return journal;
}

Status RunJournal::OpenFile() {
  database_.reset();
  MUSTER_ASSIGN_OR_RETURN(database_, sql::OpenSqlite(path_));
  MUSTER_RETURN_IF_ERROR(database_->Migrate(std::array{kSchema}));
  std::map<AttemptKey, State> known;
  bool lost_memory = false;
  MUSTER_RETURN_IF_ERROR(database_->Write([&](sql::Transaction& transaction) -> Status {
    known.clear();
    MUSTER_RETURN_IF_ERROR(transaction.Query(kSmallCache).status());
    MUSTER_RETURN_IF_ERROR(transaction.Query(kSmallWal).status());
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            transaction.Query("select run_id, fence, state from attempts"));
    for (const sql::Row& row : rows)
      known[{row.Text(0), Unsigned(row.Int(1))}] = StateOf(row.Int(2));
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows meta,
                            transaction.Query("select key from meta where key = 'lost memory'"));
    lost_memory = !meta.empty();
    return OkStatus();
  }));
  MUSTER_ASSIGN_OR_RETURN(left_open_, Select("state < 3 order by at, run_id, fence", {}));
  absl::MutexLock lock(&mutex_);
  known_ = std::move(known);
  lost_memory_ = lost_memory;
  return OkStatus();
}

void RunJournal::Know(const AttemptKey& key, State state) {
  absl::MutexLock lock(&mutex_);
  known_[key] = state;
}

Status RunJournal::ReplaceDamaged(const Status& why) {
  database_.reset();
  const std::string aside = path_ + ".damaged";
  LogError("the journal of runs is damaged: moved aside, a new one begins",
           {{"file", path_}, {"moved_to", aside}, {"error", why}});
  for (const char* suffix : {"", "-wal", "-shm"}) {
    (void)::rename((path_ + suffix).c_str(), (aside + suffix).c_str());
  }
  MUSTER_RETURN_IF_ERROR(OpenFile());
  MUSTER_RETURN_IF_ERROR(Update("insert into meta (key, value) values ('lost memory', 'yes')", {}));
  absl::MutexLock lock(&mutex_);
  lost_memory_ = true;
  return OkStatus();
}

Status RunJournal::Update(std::string_view sql, std::initializer_list<sql::Parameter> parameters) {
  return Annotate(database_->Write([&](sql::Transaction& transaction) -> Status {
    return transaction.Execute(sql, std::span(parameters.begin(), parameters.size())).status();
  }),
                  "write the journal of runs " + path_);
}

Status RunJournal::Begin(const AttemptKey& key, absl::Time at) {
  if (Look(key) != State::kNew) {
    return FailedPrecondition("attempt {} of run {} is known already", key.fence, key.run_id);
  }
  absl::MutexLock lock(&file_mutex_);
  const Status written = Update(kInsertBegun, {key.run_id, Signed(key.fence), sql::ToMicros(at)});
  if (written.ok() || absl::IsUnknown(written)) Know(key, State::kBegun);
  return written;
}

Status RunJournal::NoteProcess(const AttemptKey& key, const ProcessMark& process) {
  absl::MutexLock lock(&file_mutex_);
  return Update(
      "update attempts set pid = $3, started = $4, boot_id = $5 where run_id = $1 and fence = $2",
      {key.run_id, Signed(key.fence), int64_t{process.pid}, Signed(process.started),
       process.boot_id});
}

Status RunJournal::NoteStep(const AttemptKey& key, std::string_view step) {
  absl::MutexLock lock(&file_mutex_);
  return Update("update attempts set step = $3 where run_id = $1 and fence = $2",
                {key.run_id, Signed(key.fence), step});
}

Status RunJournal::End(const v1::RunEvent& end, const LogPosition& log) {
  const AttemptKey key{end.run_id(), end.fence()};
  const std::string body = end.SerializeAsString();
  absl::MutexLock lock(&file_mutex_);
  if (const State state = Look(key); state == State::kEnded || state == State::kTold) {
    return OkStatus();
  }
  const Status written = database_->Write([&](sql::Transaction& transaction) -> Status {
    const std::array<sql::Parameter, 6> parameters = {
        key.run_id,       Signed(key.fence), sql::ToMicros(wire::FromProto(end.at())),
        sql::Bytes{body}, log.epoch,         Signed(log.written)};
    MUSTER_RETURN_IF_ERROR(transaction.Execute(kUpdateEnded, parameters).status());
    return transaction.Execute(kInsertEnded, parameters).status();
  });
  if (!written.ok()) return Annotate(written, "write the journal of runs " + path_);
  Know(key, State::kEnded);
  return OkStatus();
}

Status RunJournal::Told(const AttemptKey& key, const LogPosition& at) {
  absl::MutexLock lock(&file_mutex_);
  MUSTER_RETURN_IF_ERROR(
      Update("update attempts set state = 3, log_epoch = $3, log_sequence = $4 "
             "where run_id = $1 and fence = $2 and state >= 2",
             {key.run_id, Signed(key.fence), at.epoch, Signed(at.written)}));
  Know(key, State::kTold);
  return OkStatus();
}

RunJournal::State RunJournal::Look(const AttemptKey& key) const {
  absl::MutexLock lock(&mutex_);
  const auto at = known_.lower_bound(key);
  if (at != known_.end() && at->first == key) return at->second;
  const bool newer = at != known_.end() && at->first.run_id == key.run_id;
  return newer ? State::kOlder : State::kNew;
}

bool RunJournal::EarlierIsOpen(const AttemptKey& key) const {
  absl::MutexLock lock(&mutex_);
  for (auto at = known_.lower_bound({key.run_id, 0}); at != known_.end() && at->first < key; ++at) {
    if (at->second == State::kBegun) return true;
  }
  return false;
}

StatusOr<std::vector<JournalEntry>> RunJournal::Select(
    std::string_view where, std::initializer_list<sql::Parameter> parameters) const {
  std::vector<JournalEntry> entries;
  MUSTER_RETURN_IF_ERROR(database_->Read([&](sql::Transaction& transaction) -> Status {
    entries.clear();
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            transaction.Query(fmt::format("{}{}", kColumns, where),
                                              std::span(parameters.begin(), parameters.size())));
    for (const sql::Row& row : rows) entries.push_back(ReadRow(row));
    return OkStatus();
  }));
  return entries;
}

StatusOr<JournalEntry> RunJournal::Read(const AttemptKey& key) const {
  absl::MutexLock lock(&file_mutex_);
  MUSTER_ASSIGN_OR_RETURN(std::vector<JournalEntry> entries,
                          Select("run_id = $1 and fence = $2", {key.run_id, Signed(key.fence)}));
  if (entries.empty()) return NotFound("no attempt {} of run {}", key.fence, key.run_id);
  return std::move(entries.front());
}

bool RunJournal::has_lost_memory() const {
  absl::MutexLock lock(&mutex_);
  return lost_memory_;
}

Status RunJournal::Remember() {
  absl::MutexLock lock(&file_mutex_);
  MUSTER_RETURN_IF_ERROR(Update("delete from meta where key = 'lost memory'", {}));
  absl::MutexLock lock_memory(&mutex_);
  lost_memory_ = false;
  return OkStatus();
}

Status RunJournal::Trim(const std::set<std::string>& assigned, absl::Time now, size_t most) {
  absl::MutexLock lock(&file_mutex_);
  size_t known = 0;
  {
    absl::MutexLock lock_memory(&mutex_);
    known = known_.size();
  }
  std::vector<AttemptKey> gone;
  MUSTER_RETURN_IF_ERROR(database_->Write([&](sql::Transaction& transaction) -> Status {
    gone.clear();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        transaction.Query(
            "select run_id, fence, at from attempts where state = 3 order by at, run_id, fence"));
    for (const sql::Row& row : rows) {
      const bool room = known - gone.size() <= most;
      if (room && row.Time(2) >= now - kKeep) break;
      if (assigned.contains(row.Text(0))) continue;
      gone.push_back({row.Text(0), Unsigned(row.Int(1))});
      MUSTER_RETURN_IF_ERROR(transaction
                                 .Execute("delete from attempts where run_id = $1 and fence = $2",
                                          {row.Text(0), row.Int(1)})
                                 .status());
    }
    return OkStatus();
  }));
  absl::MutexLock lock_memory(&mutex_);
  for (const AttemptKey& key : gone) known_.erase(key);
  return OkStatus();
}

}  // namespace muster::agent
