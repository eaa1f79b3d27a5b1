#include <deque>
#include <map>

#include "control-plane/ingest/committer.h"
#include "control-plane/ingest/session.h"
#include "lib/exec/threads.h"
#include "lib/wire/time.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "tests/bench/ingest/blobs.h"
#include "tests/bench/ingest/subject.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

// The same limits as the product's.
const control::CommitterOptions kLimits;
const control::SessionSettings kSession;

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
  explicit BlobCommitter(std::unique_ptr<Blobs> blobs)
      : blobs_(std::move(blobs)), thread_("commit", [this] { Work(); }) {}
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
  Blobs& blobs() { return *blobs_; }

 private:
  void Work() {
    for (std::vector<Batch> group = Take(); !group.empty(); group = Take()) {
      blobs_->Begin();
      for (const Batch& batch : group) blobs_->Insert(batch.log, batch.records);
      blobs_->Commit();
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

  const std::unique_ptr<Blobs> blobs_;  // the thread's until Stop
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
  explicit Ceiling(Cluster& cluster) {
    committer_ = std::make_unique<BlobCommitter>(cluster.postgres() == nullptr
                                                     ? MakeBlobFile(cluster.File("blobs.db"))
                                                     : MakeBlobCopy(cluster.postgres()->dsn()));
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
    std::map<int64_t, uint64_t> ends = committer_->blobs().Verify(feed);
    Stored stored;
    for (const Told& agent : told) {
      const uint64_t last = ends[NumberOf(agent.log_epoch)];
      if (last < agent.acknowledged) Fail(agent.agent + " was told more than is stored");
      stored.results += last;
    }
    return stored;
  }

  uint64_t Close() override {
    const uint64_t bytes = committer_->blobs().Bytes();
    committer_.reset();
    return bytes;
  }

 private:
  int64_t NumberOf(const std::string& log_epoch) {
    absl::MutexLock lock(&mutex_);
    return numbers_.emplace(log_epoch, static_cast<int64_t>(numbers_.size()) + 1).first->second;
  }

  std::unique_ptr<BlobCommitter> committer_;
  absl::Mutex mutex_;
  std::map<std::string, int64_t> numbers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Subject> MakeCeiling(Cluster& cluster) {
  return std::make_unique<Ceiling>(cluster);
}

}  // namespace muster::bench
