#include "tests/bench/ingest/fleet.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <deque>

#include "agent/link/client_session.h"
#include "lib/base/clock.h"
#include "lib/testing/servers.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

// More than any run sends.
constexpr uint64_t kEndless = uint64_t{1} << 40;
constexpr absl::Duration kWithin = absl::Seconds(60);
constexpr absl::Duration kPace = absl::Milliseconds(2);

absl::Duration Uptime() { return SystemClock().Uptime(); }

}  // namespace

// What all agents count into.
struct Fleet::Shared {
  explicit Shared(Feed& f) : feed(f) {}
  Feed& feed;
  bool paced = false;
  std::atomic<bool> sending = false;
  std::atomic<bool> sampling = false;
  std::atomic<uint64_t> results = 0;
  std::atomic<uint64_t> batches = 0;
  std::atomic<uint64_t> welcomed = 0;
  std::atomic<uint64_t> ended = 0;  // streams that gRPC says are over
  std::atomic<uint64_t> done = 0;   // agents of which gRPC knows nothing any more
};

// One read and one write in flight. A hold keeps the stream until Cancel, because a write may
// begin outside of gRPC's reactions.
class Fleet::Agent final : public grpc::ClientBidiReactor<v1::FromAgent, v1::ToAgent> {
 public:
  Agent(Shared& shared, std::string name, std::shared_ptr<grpc::Channel> channel)
      : shared_(shared),
        name_(std::move(name)),
        channel_(std::move(channel)),
        stub_(v1::AgentLink::NewStub(channel_)),
        machine_(kEndless, Uptime()) {}

  void Start() {
    absl::MutexLock lock(&mutex_);
    stub_->async()->Session(&context_, this);
    hello_ = agent::MakeHello({.epoch = log_epoch()},
                              {"bench", "boot", "", SystemClock().Now(), {{"os", "bench"}}});
    AddHold();
    writing_ = true;
    StartWrite(&hello_);
    StartRead(&in_);
    StartCall();
  }
  // Sends what there is credit for. Any thread.
  void Send() {
    absl::MutexLock lock(&mutex_);
    SendNext();
  }
  // A batch falls due now; paced agents send no others.
  void Due(absl::Duration now) {
    absl::MutexLock lock(&mutex_);
    due_.push_back(now);
    SendNext();
  }
  void Cancel() {
    context_.TryCancel();
    RemoveHold();
  }

  bool Quiet() const {
    absl::MutexLock lock(&mutex_);
    return sent_at_.empty() && !writing_;
  }
  Told told() const {
    absl::MutexLock lock(&mutex_);
    return {name_, log_epoch(), machine_.committed()};
  }
  void TakeWaits(std::vector<absl::Duration>& into) {
    absl::MutexLock lock(&mutex_);
    into.insert(into.end(), waits_.begin(), waits_.end());
    waits_.clear();
  }
  grpc::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

  // gRPC's reactions.
  void OnReadDone(bool ok) override {
    if (!ok) {
      shared_.ended.fetch_add(1);
      return;
    }
    absl::MutexLock lock(&mutex_);
    Take();
    StartRead(&in_);
    SendNext();
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) SendNext();
  }
  void OnDone(const grpc::Status& status) override {
    absl::MutexLock lock(&mutex_);
    status_ = status;
    shared_.done.fetch_add(1);
  }

 private:
  std::string log_epoch() const { return "log of " + name_; }

  void Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration now = Uptime();
    const bool greeted = machine_.welcomed();
    const auto reaction = Must(machine_.Received(in_, now), "understand the control plane");
    if (!greeted && machine_.welcomed()) shared_.welcomed.fetch_add(1);
    if (reaction.drain) Fail("the control plane sends its agents away");
    if (reaction.acknowledged) Acknowledged(*reaction.acknowledged, now);
  }

  void Acknowledged(uint64_t sequence, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    uint64_t batches = 0;
    while (!sent_at_.empty() && sent_at_.front().last <= sequence) {
      if (shared_.sampling) waits_.push_back(now - sent_at_.front().at);
      sent_at_.pop_front();
      ++batches;
    }
    shared_.batches.fetch_add(batches, std::memory_order_relaxed);
    shared_.results.fetch_add(batches * shared_.feed.batch(), std::memory_order_relaxed);
  }

  void SendNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || !shared_.sending || (shared_.paced && due_.empty())) return;
    const absl::Duration now = Uptime();
    const auto request = machine_.ToSend(now);
    if (!request) return;
    const size_t batch = shared_.feed.batch();
    if (request->most_entries < batch) Fail("the control plane grants smaller batches");
    const v1::FromAgent& message = shared_.feed.Batch((request->from - 1) / batch);
    const v1::Records& records = message.records();
    machine_.Sent({records.first_sequence(), records.last_sequence()}, now);
    sent_at_.push_back({records.last_sequence(), TakeDue(now)});
    writing_ = true;
    StartWrite(&message);
  }

  absl::Duration TakeDue(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (due_.empty()) return now;
    const absl::Duration due = due_.front();
    due_.pop_front();
    return due;
  }

  struct Flying {
    uint64_t last = 0;  // sequence
    absl::Duration at;
  };
  Shared& shared_;
  const std::string name_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::AgentLink::Stub> stub_;
  grpc::ClientContext context_;
  v1::FromAgent hello_;
  v1::ToAgent in_;  // gRPC's from StartRead to OnReadDone
  mutable absl::Mutex mutex_;
  agent::ClientSession machine_ ABSL_GUARDED_BY(mutex_);
  std::deque<Flying> sent_at_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::Duration> due_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Duration> waits_ ABSL_GUARDED_BY(mutex_);
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

Fleet::Fleet(FleetOptions options, Feed& feed)
    : options_(std::move(options)), shared_(std::make_unique<Shared>(feed)) {
  shared_->paced = options_.batches_a_second > 0;
  for (size_t i = 0; i < options_.names.size(); ++i) {
    agents_.push_back(std::make_unique<Agent>(
        *shared_, options_.names[i], net::OpenChannel(options_.address, options_.identities[i])));
  }
}

Fleet::~Fleet() = default;

void Fleet::Connect() {
  for (const auto& agent : agents_) agent->Start();
  const auto all = [this] { return shared_->welcomed + shared_->ended >= agents_.size(); };
  if (!testing::Eventually(all, kWithin)) Fail("not every agent was welcomed");
  CheckAlive();
}

Sample Fleet::Run(absl::Duration warm_up, absl::Duration measure) {
  shared_->sending = true;
  for (const auto& agent : agents_) agent->Send();
  Pace(Uptime() + warm_up);
  const Usage before = UsageNow();
  const uint64_t results = shared_->results;
  const uint64_t batches = shared_->batches;
  const absl::Duration began = Uptime();
  shared_->sampling = true;
  Pace(began + measure);
  shared_->sampling = false;
  Sample sample;
  sample.took = Uptime() - began;
  sample.results = shared_->results - results;
  sample.batches = shared_->batches - batches;
  sample.used = UsageNow() - before;
  CheckAlive();
  for (const auto& agent : agents_) agent->TakeWaits(sample.waits);
  std::sort(sample.waits.begin(), sample.waits.end());
  return sample;
}

std::vector<Told> Fleet::Finish() {
  shared_->sending = false;
  const auto quiet = [this] {
    return std::all_of(agents_.begin(), agents_.end(), [](const auto& a) { return a->Quiet(); });
  };
  if (!testing::Eventually(quiet, kWithin)) Fail("not everything was acknowledged");
  std::vector<Told> told;
  for (const auto& agent : agents_) {
    told.push_back(agent->told());
    agent->Cancel();
  }
  const auto over = [this] { return shared_->done == agents_.size(); };
  if (!testing::Eventually(over, kWithin)) Fail("a stream does not end");
  return told;
}

void Fleet::Pace(absl::Duration until) {
  const absl::Duration began = Uptime();
  uint64_t released = 0;
  for (absl::Duration now = began; now < until; now = Uptime()) {
    const double due = options_.batches_a_second * absl::ToDoubleSeconds(now - began);
    for (; static_cast<double>(released) < due; ++released) {
      agents_[released % agents_.size()]->Due(now);
    }
    testing::Pause(shared_->paced ? kPace : std::min(until - now, absl::Seconds(1)));
  }
}

void Fleet::CheckAlive() const {
  if (shared_->ended == 0) return;
  for (const auto& agent : agents_) agent->Cancel();
  testing::Eventually([this] { return shared_->done == agents_.size(); });
  for (const auto& agent : agents_) {
    const grpc::Status status = agent->status();
    if (status.error_code() == grpc::StatusCode::CANCELLED) continue;
    Fail(fmt::format("a session ended: {} ({})", status.error_message(),
                     static_cast<int>(status.error_code())));
  }
  Fail("a session ended");
}

}  // namespace muster::bench
