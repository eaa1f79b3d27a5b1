#include <sqlite3.h>

#include <deque>
#include <map>

#include "control-plane/ingest/committer.h"
#include "control-plane/ingest/session.h"
#include "lib/exec/threads.h"
#include "lib/wire/time.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "tests/bench/ingest/subject.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

// The same limits as the product's.
const control::CommitterOptions kLimits;
const control::SessionSettings kSession;

// A SQLite file with the store's settings and one table of blobs. One thread.
class BlobFile {
 public:
  explicit BlobFile(const std::string& path) {
    if (sqlite3_open_v2(path.c_str(), &db_,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        nullptr) != SQLITE_OK) {
      Fail("the ceiling's file cannot be opened");
    }
    Run("PRAGMA journal_mode=WAL");
    Run("PRAGMA journal_size_limit=67108864");
    Run("PRAGMA synchronous=FULL");
    Run("PRAGMA cache_size=-16000");
    Run("CREATE TABLE batches (log INTEGER, first INTEGER, last INTEGER, payload BLOB)");
    insert_ = Prepare("INSERT INTO batches VALUES (?1, ?2, ?3, ?4)");
    begin_ = Prepare("BEGIN IMMEDIATE");
    commit_ = Prepare("COMMIT");
  }
  ~BlobFile() {
    for (sqlite3_stmt* statement : {insert_, begin_, commit_}) sqlite3_finalize(statement);
    sqlite3_close_v2(db_);
  }
  BlobFile(const BlobFile&) = delete;
  BlobFile& operator=(const BlobFile&) = delete;

  void Begin() { Step(begin_); }
  void Commit() { Step(commit_); }
  void Insert(int64_t log, const v1::Records& records) {
    sqlite3_bind_int64(insert_, 1, log);
    sqlite3_bind_int64(insert_, 2, static_cast<int64_t>(records.first_sequence()));
    sqlite3_bind_int64(insert_, 3, static_cast<int64_t>(records.last_sequence()));
    sqlite3_bind_blob64(insert_, 4, records.batch().data(), records.batch().size(), SQLITE_STATIC);
    Step(insert_);
  }

  // The last sequence of each log; its batches must follow one another and be the feed's.
  std::map<int64_t, uint64_t> Verify(Feed& feed) {
    sqlite3_stmt* const select = Prepare("SELECT log, first, payload FROM batches ORDER BY rowid");
    std::map<int64_t, uint64_t> ends;
    while (sqlite3_step(select) == SQLITE_ROW) {
      uint64_t& last = ends[sqlite3_column_int64(select, 0)];
      const v1::Records& sent = feed.Batch(last / feed.batch()).records();
      const auto first = static_cast<uint64_t>(sqlite3_column_int64(select, 1));
      const std::string_view payload(static_cast<const char*>(sqlite3_column_blob(select, 2)),
                                     static_cast<size_t>(sqlite3_column_bytes(select, 2)));
      if (first != last + 1 || payload != sent.batch()) {
        Fail(fmt::format("the ceiling's batch after {} is not as sent", last));
      }
      last = sent.last_sequence();
    }
    sqlite3_finalize(select);
    return ends;
  }

 private:
  void Run(const std::string& sql) {
    if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) Fail(sql);
  }
  sqlite3_stmt* Prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) Fail(sql);
    return statement;
  }
  void Step(sqlite3_stmt* statement) {
    if (sqlite3_step(statement) != SQLITE_DONE) Fail(sqlite3_errmsg(db_));
    sqlite3_reset(statement);
  }

  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
};

// Told when a batch is durable.
class Acknowledged {
 public:
  virtual ~Acknowledged() = default;
  virtual void Ack(uint64_t sequence) = 0;
};

struct Batch {
  std::shared_ptr<Acknowledged> from;
  int64_t log = 0;
  v1::Records records;
};

// One bounded queue, one thread, many batches a transaction.
class BlobCommitter {
 public:
  explicit BlobCommitter(const std::string& path)
      : file_(path), thread_("commit", [this] { Work(); }) {}
  ~BlobCommitter() { Stop(); }

  // False if too much waits.
  bool Submit(Batch batch) {
    absl::MutexLock lock(&mutex_);
    if (bytes_ + batch.records.batch().size() > kLimits.most_waiting_bytes) return false;
    bytes_ += batch.records.batch().size();
    queue_.push_back(std::move(batch));
    return true;
  }
  void Stop() {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.Join();
  }
  uint64_t commits() const {
    absl::MutexLock lock(&mutex_);
    return commits_;
  }
  // After Stop.
  BlobFile& file() { return file_; }

 private:
  void Work() {
    for (std::vector<Batch> group = Take(); !group.empty(); group = Take()) {
      file_.Begin();
      for (const Batch& batch : group) file_.Insert(batch.log, batch.records);
      file_.Commit();
      for (const Batch& batch : group) batch.from->Ack(batch.records.last_sequence());
    }
  }

  // Empty when the committer is to stop.
  std::vector<Batch> Take() {
    const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return stopping_ || !queue_.empty();
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&ready));
    std::vector<Batch> group;
    size_t results = 0;
    while (!stopping_ && !queue_.empty() && group.size() < kLimits.batches_a_commit &&
           results < kLimits.results_a_commit) {
      const v1::Records& records = queue_.front().records;
      results += records.last_sequence() - records.first_sequence() + 1;
      bytes_ -= records.batch().size();
      group.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    if (!group.empty()) ++commits_;
    return group;
  }

  BlobFile file_;  // the thread's until Stop
  mutable absl::Mutex mutex_;
  std::deque<Batch> queue_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t commits_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

// Keeps itself alive from Start to OnDone; batches on their way hold it as well.
class BlobStream final : public grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>,
                         public Acknowledged,
                         public std::enable_shared_from_this<BlobStream> {
 public:
  using NumberOf = std::function<int64_t(const std::string& log_epoch)>;
  BlobStream(BlobCommitter& committer, NumberOf number_of)
      : committer_(committer), number_of_(std::move(number_of)) {}

  void Start() {
    self_ = shared_from_this();
    StartRead(&in_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) return Close(grpc::Status::OK);
    if (in_.has_hello()) {
      log_ = number_of_(in_.hello().log_epoch());
      Welcome();
    } else if (!committer_.Submit({shared_from_this(), log_, std::move(*in_.mutable_records())})) {
      return Close({grpc::StatusCode::RESOURCE_EXHAUSTED, "too much waits for the disk"});
    }
    in_.Clear();
    absl::MutexLock lock(&mutex_);
    if (!closed_) StartRead(&in_);
  }
  void Ack(uint64_t sequence) override {
    absl::MutexLock lock(&mutex_);
    durable_ = sequence;
    WriteNext();
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) WriteNext();
  }
  void OnCancel() override { Close(grpc::Status::CANCELLED); }
  void OnDone() override { self_.reset(); }

 private:
  void Welcome() {
    absl::MutexLock lock(&mutex_);
    v1::SessionLimits& limits = *out_.mutable_welcome()->mutable_limits();
    limits.set_window(kSession.window);
    limits.set_batch_entries(kSession.batch_entries);
    limits.set_batch_bytes(kSession.batch_bytes);
    *limits.mutable_flush() = wire::ToProto(kSession.flush);
    writing_ = true;
    StartWrite(&out_);
  }
  // Acknowledgements are cumulative: only the newest is sent.
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || closed_ || durable_ == told_) return;
    told_ = durable_;
    out_.Clear();
    out_.mutable_ack()->set_sequence(told_);
    writing_ = true;
    StartWrite(&out_);
  }
  void Close(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (closed_) return;
    closed_ = true;
    Finish(status);
  }

  BlobCommitter& committer_;
  const NumberOf number_of_;
  std::shared_ptr<BlobStream> self_;
  v1::FromAgent in_;  // the read's
  int64_t log_ = 0;   // the read's
  absl::Mutex mutex_;
  v1::ToAgent out_ ABSL_GUARDED_BY(mutex_);
  uint64_t durable_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t told_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class Ceiling final : public Subject, public v1::AgentLink::CallbackService {
 public:
  explicit Ceiling(Cluster& cluster) : path_(cluster.File("blobs.db")) {
    committer_ = std::make_unique<BlobCommitter>(path_);
  }

  grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>* Session(
      grpc::CallbackServerContext* /*context*/) override {
    const auto stream = std::make_shared<BlobStream>(
        *committer_, [this](const std::string& epoch) { return NumberOf(epoch); });
    stream->Start();
    return stream.get();
  }

  grpc::Service& service() override { return *this; }
  uint64_t commits() const override { return committer_->commits(); }

  Stored Verify(const std::vector<Told>& told, Feed& feed) override {
    committer_->Stop();
    std::map<int64_t, uint64_t> ends = committer_->file().Verify(feed);
    Stored stored;
    for (const Told& agent : told) {
      const uint64_t last = ends[NumberOf(agent.log_epoch)];
      if (last < agent.acknowledged) Fail(agent.agent + " was told more than is stored");
      stored.results += last;
    }
    return stored;
  }

  uint64_t Close() override {
    committer_.reset();
    return DatabaseBytes(path_);
  }

 private:
  int64_t NumberOf(const std::string& log_epoch) {
    absl::MutexLock lock(&mutex_);
    return numbers_.emplace(log_epoch, static_cast<int64_t>(numbers_.size()) + 1).first->second;
  }

  const std::string path_;
  std::unique_ptr<BlobCommitter> committer_;
  absl::Mutex mutex_;
  std::map<std::string, int64_t> numbers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Subject> MakeCeiling(Cluster& cluster) {
  return std::make_unique<Ceiling>(cluster);
}

}  // namespace muster::bench
