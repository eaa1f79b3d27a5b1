#include "agent/spool/spool.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr std::string_view kSchema = R"sql(
create table log (
  sequence integer primary key,
  at       bigint not null,
  bytes    bigint not null,
  body     BYTES  not null
);
create table meta (key text primary key, value text not null);
)sql";

constexpr std::string_view kInsert =
    "insert into log (sequence, at, bytes, body) values ($1, $2, $3, $4)";
constexpr std::string_view kPutMeta =
    "insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = "
    "excluded.value";
constexpr std::string_view kGetMeta = "select key, value from meta";
constexpr std::string_view kSizes =
    "select sequence, bytes, at from log where sequence > $1 and sequence <= $2 order by sequence "
    "limit $3";
constexpr std::string_view kFrom =
    "select sequence, at, body from log where sequence >= $1 order by sequence limit $2";

// An agent is small: a page cache of 1 MiB, and a write-ahead log of half of that.
constexpr std::string_view kSmallCache = "pragma cache_size = -1024";
constexpr std::string_view kSmallWal = "pragma wal_autocheckpoint = 128";

// What a row costs besides its body: its keys and its share of the page.
constexpr uint64_t kRowBytes = 24;
constexpr int64_t kPage = 1024;
constexpr absl::Duration kTrimEvery = absl::Minutes(1);

int64_t Signed(uint64_t number) { return static_cast<int64_t>(number); }
uint64_t Unsigned(int64_t number) { return static_cast<uint64_t>(number); }

uint64_t FirstOf(const v1::Record& record) {
  return record.has_gap() ? record.gap().first() : record.sequence();
}

v1::Record MakeGap(uint64_t first, uint64_t last, v1::Gap::Reason reason, absl::Time from,
                   absl::Time until) {
  v1::Record record;
  record.set_sequence(last);
  v1::Gap& gap = *record.mutable_gap();
  gap.set_first(first);
  gap.set_last(last);
  gap.set_reason(reason);
  *gap.mutable_from() = wire::ToProto(from);
  *gap.mutable_until() = wire::ToProto(until);
  return record;
}

Status PutMeta(sql::Transaction& transaction, std::string_view key, std::string_view value) {
  return transaction.Execute(kPutMeta, {key, value}).status();
}

Status Insert(sql::Transaction& transaction, uint64_t sequence, absl::Time at,
              std::string_view body) {
  return transaction
      .Execute(kInsert, {Signed(sequence), sql::ToMicros(at), Signed(body.size() + kRowBytes),
                         sql::Bytes{body}})
      .status();
}

Status DeleteThrough(sql::Transaction& transaction, uint64_t sequence) {
  return transaction.Execute("delete from log where sequence <= $1", {Signed(sequence)}).status();
}

uint64_t ReadNumber(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); }

// A row whose bytes are no record any more: its number is told as a gap.
v1::Record ReadRow(const sql::Row& row, uint64_t from) {
  const uint64_t sequence = Unsigned(row.Int(0));
  StatusOr<v1::Record> record = DecodeEntry(sequence, row.Text(2), from);
  if (record.ok()) return *std::move(record);
  LogError("a record of the log is damaged", {{"sequence", sequence}, {"error", record.status()}});
  return MakeGap(sequence, sequence, v1::Gap::REASON_LOG_DAMAGED, row.Time(1), row.Time(1));
}

// The oldest rows in (after, through] that together hold at least `bytes`.
struct Head {
  uint64_t last = 0;  // 0: none
  uint64_t bytes = 0;
  uint64_t rows = 0;
};
StatusOr<Head> OldestRows(sql::Transaction& transaction, uint64_t after, uint64_t through,
                          uint64_t bytes) {
  Head head;
  while (head.bytes < bytes) {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            transaction.Query(kSizes, {Signed(after), Signed(through), kPage}));
    for (const sql::Row& row : rows) {
      if (head.bytes >= bytes) break;
      after = head.last = Unsigned(row.Int(0));
      head.bytes += Unsigned(row.Int(1));
      ++head.rows;
    }
    if (rows.size() < static_cast<size_t>(kPage)) break;
  }
  return head;
}

}  // namespace

std::string EncodeEntry(const v1::Record& record) {
  v1::Record body = record;
  body.clear_sequence();
  return body.SerializeAsString();
}

StatusOr<v1::Record> DecodeEntry(uint64_t sequence, std::string_view body, uint64_t from) {
  v1::Record record;
  if (!record.ParseFromArray(body.data(), static_cast<int>(body.size())) ||
      record.body_case() == v1::Record::BODY_NOT_SET) {
    return DataLoss("record {} of the log cannot be read", sequence);
  }
  record.set_sequence(sequence);
  if (!record.has_gap()) return record;
  // Only the length counts: the numbers move when a log begins a new epoch.
  v1::Gap& gap = *record.mutable_gap();
  if (gap.last() < gap.first()) {
    return DataLoss("gap {} of the log has a range that cannot be", sequence);
  }
  const uint64_t first = sequence - std::min(gap.last() - gap.first(), sequence - 1);
  gap.set_first(std::clamp(from, first, sequence));
  gap.set_last(sequence);
  return record;
}

Spool::Spool(std::string path, SpoolOptions options, const Clock& clock)
    : path_(std::move(path)), options_(options), clock_(clock) {}

StatusOr<std::unique_ptr<Spool>> Spool::Open(std::string path, SpoolOptions options,
                                             const Clock& clock) {
  std::unique_ptr<Spool> spool(new Spool(std::move(path), options, clock));
  absl::MutexLock lock(&spool->mutex_);
  MUSTER_RETURN_IF_ERROR(spool->OpenOrReplace());
  return spool;
}

Status Spool::OpenFile() {
  database_.reset();
  MUSTER_ASSIGN_OR_RETURN(database_, sql::OpenSqlite(path_));
  MUSTER_RETURN_IF_ERROR(database_->Migrate(std::array{kSchema}));
  return Load();
}

Status Spool::OpenOrReplace() {
  const Status opened = OpenFile();
  if (!absl::IsDataLoss(opened)) return Annotate(opened, "open the agent's log " + path_);
  return ReplaceDamaged(opened);
}

Status Spool::ReplaceDamaged(const Status& why) {
  database_.reset();
  const std::string aside = path_ + ".damaged";
  LogError("the agent's log is damaged: moved aside, a new one begins",
           {{"file", path_}, {"moved_to", aside}, {"error", why}});
  for (const char* suffix : {"", "-wal", "-shm"}) {
    (void)::rename((path_ + suffix).c_str(), (aside + suffix).c_str());
  }
  MUSTER_RETURN_IF_ERROR(Annotate(OpenFile(), "begin a new log " + path_));
  const absl::Time now = clock_.Now();
  LoseLocked({1, v1::Gap::REASON_LOG_DAMAGED, now, now});
  std::vector<v1::Record> none;
  return Store(Number(none));
}

Status Spool::Load() {
  State state;
  const std::string fresh = RandomUuid();
  MUSTER_RETURN_IF_ERROR(database_->Write([&](sql::Transaction& transaction) -> Status {
    state = {};
    MUSTER_RETURN_IF_ERROR(transaction.Query(kSmallCache).status());
    MUSTER_RETURN_IF_ERROR(transaction.Query(kSmallWal).status());
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows meta, transaction.Query(kGetMeta));
    for (const sql::Row& row : meta) {
      if (row.Text(0) == "epoch") state.epoch = row.Text(1);
      if (row.Text(0) == "next") state.next = ReadNumber(row.Text(1));
      if (row.Text(0) == "acknowledged") state.acknowledged = ReadNumber(row.Text(1));
    }
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows sums,
        transaction.Query("select coalesce(sum(bytes), 0), coalesce(max(sequence), 0) from log"));
    state.bytes = Unsigned(sums.at(0).Int(0));
    state.next = std::max(state.next, Unsigned(sums.at(0).Int(1)) + 1);
    if (!state.epoch.empty()) return OkStatus();
    state.epoch = fresh;
    return PutMeta(transaction, "epoch", fresh);
  }));
  state_ = std::move(state);
  return OkStatus();
}

std::vector<Spool::Entry> Spool::Number(std::vector<v1::Record>& records) const {
  std::vector<Entry> entries;
  entries.reserve(records.size() + 1);
  uint64_t next = state_.next;
  if (lost_) {
    const uint64_t last = next + lost_->count - 1;
    entries.push_back(
        {last, EncodeEntry(MakeGap(next, last, lost_->reason, lost_->from, lost_->until))});
    next = last + 1;
  }
  for (const v1::Record& record : records) entries.push_back({next++, EncodeEntry(record)});
  return entries;
}

StatusOr<uint64_t> Spool::Append(std::vector<v1::Record> records) {
  absl::MutexLock lock(&mutex_);
  const std::vector<Entry> entries = Number(records);
  if (entries.empty()) return state_.next - 1;
  Status stored = Store(entries);
  if (absl::IsDataLoss(stored)) {
    stored = ReplaceDamaged(stored);
    if (stored.ok()) stored = Store(Number(records));
  }
  if (stored.ok()) return state_.next - 1;
  const absl::Time now = clock_.Now();
  if (!records.empty()) LoseLocked({records.size(), v1::Gap::REASON_DISK_FULL, now, now});
  return stored;
}

// Writes the entries, a pending gap first; on success the pending gap is none any more.
Status Spool::Store(const std::vector<Entry>& entries) {
  uint64_t needed = 0;
  for (const Entry& entry : entries) needed += entry.body.size() + kRowBytes;
  const absl::Time now = clock_.Now();
  State after;
  uint64_t lost = 0;
  const bool trim = clock_.Uptime() - trimmed_at_ >= kTrimEvery;
  const auto write = [&](sql::Transaction& transaction) -> Status {
    mutex_.AssertHeld();
    after = state_;
    lost = 0;
    if (trim) {
      MUSTER_RETURN_IF_ERROR(
          DropAcknowledged(transaction, 0, now - options_.keep_acknowledged_for, after));
    }
    MUSTER_RETURN_IF_ERROR(MakeRoom(transaction, needed, after, lost));
    for (const Entry& entry : entries) {
      MUSTER_RETURN_IF_ERROR(Insert(transaction, entry.sequence, now, entry.body));
    }
    after.bytes += needed;
    after.next = entries.back().sequence + 1;
    MUSTER_RETURN_IF_ERROR(PutMeta(transaction, "next", fmt::format("{}", after.next)));
    return PutMeta(transaction, "acknowledged", fmt::format("{}", after.acknowledged));
  };
  Status written = database_->Write(write);
  if (absl::IsUnknown(written)) {
    // The commit may have happened: the file says whether it did.
    const uint64_t acknowledged = state_.acknowledged;
    MUSTER_RETURN_IF_ERROR(Load());
    state_.acknowledged = acknowledged;
    if (state_.next == entries.back().sequence + 1) written = OkStatus();
    after = state_;
  }
  if (!written.ok()) return written;
  state_ = std::move(after);
  if (trim) trimmed_at_ = clock_.Uptime();
  counts_.lost_full += lost;
  if (counts_.disk_full) LogWarning("the agent's log takes records again", {{"file", path_}});
  counts_.disk_full = false;
  lost_.reset();
  return OkStatus();
}

Status Spool::MakeRoom(sql::Transaction& transaction, uint64_t needed, State& state,
                       uint64_t& lost) const {
  const uint64_t bound = options_.bound_bytes;
  if (state.bytes + needed <= bound) return OkStatus();
  // A twentieth more than must be, so that a full log does not do this at every append.
  const uint64_t floor = bound - std::min(bound, bound / 20 + needed);
  MUSTER_RETURN_IF_ERROR(DropAcknowledged(transaction, state.bytes - std::min(floor, state.bytes),
                                          absl::InfinitePast(), state));
  if (state.bytes + needed <= bound) return OkStatus();
  return FoldOldest(transaction, state.bytes - floor, state, lost);
}

// Either as many of the oldest as hold `bytes`, or a page of those written before `older_than`.
Status Spool::DropAcknowledged(sql::Transaction& transaction, uint64_t bytes, absl::Time older_than,
                               State& state) const {
  Head head;
  if (bytes > 0) {
    MUSTER_ASSIGN_OR_RETURN(head, OldestRows(transaction, 0, state.acknowledged, bytes));
  } else {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        transaction.Query(kSizes, {int64_t{0}, Signed(state.acknowledged), kPage}));
    for (const sql::Row& row : rows) {
      if (row.Time(2) >= older_than) break;
      head.last = Unsigned(row.Int(0));
      head.bytes += Unsigned(row.Int(1));
    }
  }
  if (head.last == 0) return OkStatus();
  state.bytes -= std::min(state.bytes, head.bytes);
  return DeleteThrough(transaction, head.last);
}

// The oldest unacknowledged rows become one gap; a gap at the front grows.
Status Spool::FoldOldest(sql::Transaction& transaction, uint64_t bytes, State& state,
                         uint64_t& lost) const {
  MUSTER_ASSIGN_OR_RETURN(const Head head,
                          OldestRows(transaction, state.acknowledged, state.next, bytes));
  if (head.last == 0) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows first_row,
                          transaction.Query(kFrom, {Signed(state.acknowledged + 1), int64_t{1}}));
  const v1::Record first = ReadRow(first_row.at(0), state.acknowledged + 1);
  if (head.rows == 1 && first.has_gap()) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows last_row,
                          transaction.Query(kFrom, {Signed(head.last), int64_t{1}}));
  const absl::Time from =
      first.has_gap() ? wire::FromProto(first.gap().from()) : first_row.at(0).Time(1);
  const absl::Time until = last_row.at(0).Time(1);
  const std::string body =
      EncodeEntry(MakeGap(FirstOf(first), head.last, v1::Gap::REASON_SPOOL_FULL, from, until));
  MUSTER_RETURN_IF_ERROR(DeleteThrough(transaction, head.last));
  MUSTER_RETURN_IF_ERROR(Insert(transaction, head.last, until, body));
  state.bytes = state.bytes - std::min(state.bytes, head.bytes) + body.size() + kRowBytes;
  lost += head.rows - (first.has_gap() ? 1 : 0);
  return OkStatus();
}

void Spool::Lose(uint64_t count, v1::Gap::Reason reason, absl::Time from, absl::Time until) {
  if (count == 0) return;
  absl::MutexLock lock(&mutex_);
  LoseLocked({count, reason, from, until});
}

void Spool::LoseLocked(const Lost& lost) {
  if (lost.reason == v1::Gap::REASON_DISK_FULL && !counts_.disk_full) {
    counts_.disk_full = true;
    LogError("the agent's log takes no records: results are counted as lost until there is room",
             {{"file", path_}});
  }
  counts_.lost_unwritten += lost.count;
  if (!lost_) {
    lost_ = lost;
    return;
  }
  lost_->count += lost.count;
  lost_->until = lost.until;
}

StatusOr<std::vector<v1::Record>> Spool::ReadFrom(uint64_t sequence, size_t most_entries,
                                                  size_t most_bytes) {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::Record> records;
  uint64_t expected = std::max<uint64_t>(1, sequence);
  if (expected >= state_.next || most_entries == 0) return records;
  const auto fill = [&](uint64_t through, absl::Time at) {
    // Before anything that is held: dropped at the bound. Within: the file has lost it.
    const auto reason = records.empty() ? v1::Gap::REASON_SPOOL_FULL : v1::Gap::REASON_LOG_DAMAGED;
    records.push_back(MakeGap(expected, through, reason, at, at));
    expected = through + 1;
  };
  const Status read = database_->Read([&](sql::Transaction& transaction) -> Status {
    mutex_.AssertHeld();
    records.clear();
    expected = std::max<uint64_t>(1, sequence);
    MUSTER_RETURN_IF_ERROR(transaction.Query(kSmallCache).status());
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            transaction.Query(kFrom, {Signed(expected), Signed(most_entries)}));
    size_t bytes = 0;
    for (const sql::Row& row : rows) {
      bytes += row.Text(2).size() + kRowBytes;
      if (!records.empty() && (bytes > most_bytes || records.size() >= most_entries))
        return OkStatus();
      v1::Record record = ReadRow(row, expected);
      if (FirstOf(record) > expected) fill(FirstOf(record) - 1, row.Time(1));
      if (records.size() >= most_entries) return OkStatus();
      expected = record.sequence() + 1;
      records.push_back(std::move(record));
    }
    if (rows.empty()) fill(state_.next - 1, clock_.Now());
    return OkStatus();
  });
  if (absl::IsDataLoss(read)) MUSTER_RETURN_IF_ERROR(ReplaceDamaged(read));
  MUSTER_RETURN_IF_ERROR(read);
  return records;
}

void Spool::Acknowledge(uint64_t sequence) {
  absl::MutexLock lock(&mutex_);
  state_.acknowledged = std::clamp(sequence, state_.acknowledged, state_.next - 1);
}

void Spool::Rewind(uint64_t committed) {
  absl::MutexLock lock(&mutex_);
  state_.acknowledged = std::min(committed, state_.next - 1);
}

Status Spool::StartNewEpoch() {
  absl::MutexLock lock(&mutex_);
  State after;
  const std::string epoch = RandomUuid();
  MUSTER_RETURN_IF_ERROR(database_->Write([&](sql::Transaction& transaction) -> Status {
    mutex_.AssertHeld();
    after = state_;
    after.epoch = epoch;
    const int64_t base = Signed(state_.acknowledged);
    MUSTER_RETURN_IF_ERROR(DeleteThrough(transaction, state_.acknowledged));
    // Two steps, so that no number is taken while it is given.
    MUSTER_RETURN_IF_ERROR(
        transaction.Execute("update log set sequence = $1 - sequence", {base}).status());
    MUSTER_RETURN_IF_ERROR(transaction.Execute("update log set sequence = -sequence").status());
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows sums,
                            transaction.Query("select coalesce(sum(bytes), 0) from log"));
    after.bytes = Unsigned(sums.at(0).Int(0));
    after.next = state_.next - state_.acknowledged;
    after.acknowledged = 0;
    MUSTER_RETURN_IF_ERROR(PutMeta(transaction, "epoch", epoch));
    MUSTER_RETURN_IF_ERROR(PutMeta(transaction, "next", fmt::format("{}", after.next)));
    return PutMeta(transaction, "acknowledged", "0");
  }));
  state_ = std::move(after);
  return OkStatus();
}

LogBounds Spool::bounds() const {
  absl::MutexLock lock(&mutex_);
  LogBounds bounds;
  bounds.epoch = state_.epoch;
  bounds.written = state_.next - 1;
  bounds.acknowledged = state_.acknowledged;
  const Status read = database_->Read([&](sql::Transaction& transaction) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            transaction.Query(kFrom, {int64_t{0}, int64_t{1}}));
    if (rows.empty()) return OkStatus();
    bounds.first = FirstOf(ReadRow(rows.at(0), 0));
    bounds.last = bounds.written;
    return OkStatus();
  });
  if (!read.ok()) LogError("read the agent's log", {{"file", path_}, {"error", read}});
  return bounds;
}

LogPosition Spool::position() const {
  absl::MutexLock lock(&mutex_);
  return {state_.epoch, state_.next - 1};
}

SpoolCounts Spool::counts() const {
  absl::MutexLock lock(&mutex_);
  SpoolCounts counts = counts_;
  counts.bytes = state_.bytes;
  return counts;
}

}  // namespace muster::agent
