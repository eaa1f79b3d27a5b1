#include "tests/bench/fleet/sim_agent.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "agent/link/renewal.h"
#include "lib/base/hash.h"
#include "lib/net/status.h"
#include "lib/wire/columns.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kWriteWithin = absl::Seconds(30);
constexpr absl::Duration kRenewWithin = absl::Seconds(30);
// Until it is looked for a free turn again: thousands look, so that one is soon taken all the same.
constexpr absl::Duration kTurn = absl::Seconds(1);

}  // namespace

// One call on a channel of its own. One read and one write in flight; a hold keeps it while the
// agent may still start something.
class SimAgent::Stream final : public grpc::ClientBidiReactor<v1::FromAgent, v1::ToAgent> {
 public:
  Stream(SimAgent& agent, std::shared_ptr<grpc::Channel> channel, v1::FromAgent hello)
      : agent_(agent),
        channel_(std::move(channel)),
        stub_(v1::AgentLink::NewStub(channel_)),
        out_(std::move(hello)) {
    stub_->async()->Session(&context_, this);
    AddHold();
    StartWrite(&out_);
    StartRead(&in_);
    StartCall();
  }

  void OnReadDone(bool ok) override { agent_.TakeMessage(*this, ok); }
  void OnWriteDone(bool ok) override { agent_.TakeWritten(ok); }
  // Nothing of this object is touched afterwards: the agent lets go of it.
  void OnDone(const grpc::Status& status) override { agent_.TakeDone(net::ToAbsl(status)); }

  const v1::ToAgent& message() const { return in_; }
  void ReadNext() {
    // Clear would keep a plan's memory for the next one.
    if (in_.has_plan()) {
      in_ = v1::ToAgent();
    } else {
      in_.Clear();
    }
    StartRead(&in_);
  }
  void Write(v1::FromAgent message) {
    out_ = std::move(message);
    StartWrite(&out_);
  }
  void Close() {
    context_.TryCancel();
    RemoveHold();
  }

 private:
  SimAgent& agent_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::AgentLink::Stub> stub_;
  grpc::ClientContext context_;
  v1::ToAgent in_;     // gRPC's from StartRead to OnReadDone
  v1::FromAgent out_;  // gRPC's from StartWrite to OnWriteDone
};

void TrustRoots(const std::string& roots_pem) {
  // gRPC takes such roots from a file alone, where a distribution has named it one.
  const int file = memfd_create("roots", MFD_CLOEXEC);
  const ssize_t written = write(file, roots_pem.data(), roots_pem.size());
  if (written != static_cast<ssize_t>(roots_pem.size())) Fail("cannot keep the roots in memory");
  setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", fmt::format("/proc/self/fd/{}", file).c_str(), 1);
}

SimAgent::SimAgent(Shared& shared, Wheel& wheel, std::string name, net::ClientIdentity identity)
    : shared_(shared),
      wheel_(wheel),
      name_(std::move(name)),
      identity_(std::move(identity)),
      log_(RandomUuid(), shared.log_bound),
      schedule_(name_, shared.failures),
      servers_(shared.servers),
      server_(tour_.Next(servers_, shared.random.Next())) {
  absl::MutexLock lock(&mutex_);
  JournalLog();
  PlanRenewal();
}

SimAgent::~SimAgent() = default;

void SimAgent::Begin(absl::Duration delay) {
  absl::MutexLock lock(&mutex_);
  dial_at_ = shared_.clock.Uptime() + delay;
  SetTimer();
}

void SimAgent::Flush() {
  absl::MutexLock lock(&mutex_);
  if (!Live()) return;
  session_->FlushNow();
  SendNext(shared_.clock.Uptime());
  SetTimer();
}

void SimAgent::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
  dial_at_ = absl::InfiniteDuration();
  if (Live()) End({OkStatus(), true, std::nullopt});
  SetTimer();
}

bool SimAgent::Settled() const {
  absl::MutexLock lock(&mutex_);
  return session_ && session_->welcomed() && !ending_ && !writing_ &&
         log_.acknowledged() >= log_.written();
}

bool SimAgent::Gone() const {
  absl::MutexLock lock(&mutex_);
  return stopping_ && stream_ == nullptr && done_ == nullptr && !renewing_ && !queued_;
}

void SimAgent::OnTime(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  // It goes on no thread of gRPC's.
  if (done_ != nullptr) (void)shared_.dials.Submit([done = std::move(done_)] {});
  if (now >= dial_at_ && stream_ == nullptr && !queued_ && !stopping_) {
    if (MayDial()) {
      queued_ = shared_.dials.Submit([this] { Dial(); });
      if (!queued_) DialsNoMore();
    }
    dial_at_ = queued_ ? absl::InfiniteDuration() : now + kTurn;
  }
  if (shared_.finding && !stopping_) Find(now);
  if (Live()) SendNext(now);
  if (Live()) CheckTime(now);
  if (now >= renew_at_ && !stopping_ && !renewing_) {
    renew_at_ = absl::InfiniteDuration();
    renewing_ = shared_.renewals.Submit([this] { Renew(); });
  }
  SetTimer();
}

void SimAgent::SetTimer() {
  absl::Duration next = done_ != nullptr ? absl::ZeroDuration() : absl::InfiniteDuration();
  if (stopping_) return wheel_.Set(*this, next);
  if (stream_ == nullptr) next = std::min(next, dial_at_);
  if (shared_.finding) next = std::min(next, schedule_.next_due());
  next = std::min(next, renew_at_);
  if (Live()) {
    // While a write is on its way, its end is what is waited for.
    next = std::min(next, writing_ ? write_began_ + kWriteWithin : session_->NextTick());
  }
  wheel_.Set(*this, next);
}

bool SimAgent::MayDial() {
  if (shared_.dialling.fetch_add(1) < shared_.most_dialling) return dialling_ = true;
  shared_.dialling.fetch_sub(1);
  return false;
}

void SimAgent::DialsNoMore() {
  if (std::exchange(dialling_, false)) shared_.dialling.fetch_sub(1);
}

void SimAgent::Dial() {
  absl::MutexLock lock(&mutex_);
  queued_ = false;
  if (stopping_) return DialsNoMore();
  const absl::Duration now = shared_.clock.Uptime();
  dialled_at_ = write_began_ = now;
  writing_ = true;
  said_hello_ = false;
  sent_.clear();
  const agent::LogBounds bounds = log_.bounds();
  session_.emplace(bounds.written, now);
  agent::HelloFacts facts{MUSTER_VERSION,      "simulated",           plan_hash_,
                          shared_.clock.Now(), {{"os", "simulated"}}, witnessed_};
  v1::FromAgent hello = agent::MakeHello(bounds, facts);
  // Without roots of its own: those of all.
  const net::ClientIdentity shown{"", identity_.chain_pem, identity_.key_pem};
  stream_ = std::make_unique<Stream>(*this, net::OpenChannel(server_, shown), std::move(hello));
  SetTimer();
}

void SimAgent::End(Ending ending) {
  if (session_->welcomed()) {
    lost_at_ = shared_.clock.Uptime();
    shared_.figures.welcomed.fetch_sub(1);
  }
  ending_ = std::move(ending);
  stream_->Close();
}

void SimAgent::TakeMessage(Stream& stream, bool ok) {
  absl::MutexLock lock(&mutex_);
  if (!Live()) return;
  if (!ok) return End({OkStatus(), false, std::nullopt});
  const absl::Duration now = shared_.clock.Uptime();
  React(stream.message(), now);
  if (!Live()) return;
  stream.ReadNext();
  SendNext(now);
  if (Live()) SetTimer();
}

void SimAgent::TakeWritten(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!Live()) return;
  if (!ok) return End({OkStatus(), false, std::nullopt});
  const absl::Duration now = shared_.clock.Uptime();
  if (!std::exchange(said_hello_, true)) shared_.figures.handshakes.Add(now - dialled_at_);
  SendNext(now);
  if (Live()) SetTimer();
}

// As agent/link decides where and when to dial again.
void SimAgent::TakeDone(const Status& status) {
  absl::MutexLock lock(&mutex_);
  const bool was_welcomed = session_->welcomed();
  DialsNoMore();
  // The hold kept the call until End.
  if (ending_->status.ok() && !status.ok() && !absl::IsCancelled(status)) ending_->status = status;
  if (!stopping_) shared_.figures.Ended(ending_->status);
  if (was_welcomed) tour_.Met();
  const absl::Duration rest = RestAfter(*ending_);
  if (!ending_->at_once) {
    server_ = tour_.Next(servers_, shared_.random.Next());
    if (!was_welcomed) tour_.Failed();
  }
  dial_at_ = stopping_ ? absl::InfiniteDuration() : shared_.clock.Uptime() + rest;
  ending_.reset();
  session_.reset();
  writing_ = false;
  done_ = std::move(stream_);
  SetTimer();
}

absl::Duration SimAgent::RestAfter(const Ending& ending) {
  if (ending.at_once) return absl::ZeroDuration();
  if (!ending.drain)
    return FullJitter(shared_.backoff, tour_.RoundsInVain(servers_.size()), shared_.random);
  const absl::Duration jitter =
      servers_.size() > 1 ? shared_.drain_jitter_elsewhere : shared_.drain_jitter;
  return *ending.drain + shared_.random.Below(jitter);
}

void SimAgent::React(const v1::ToAgent& message, absl::Duration now) {
  const bool greeted = session_->welcomed();
  const StatusOr<agent::Reaction> reaction = session_->Received(message, now);
  if (!greeted && session_->welcomed()) Welcomed(now);
  if (!reaction.ok()) return End({reaction.status(), false, std::nullopt});
  if (reaction->new_log_epoch) return BeginNewLog();
  if (!reaction->servers.empty() && shared_.learn_servers) servers_ = reaction->servers;
  if (reaction->checkpoint) witnessed_ = reaction->checkpoint;
  if (reaction->rewind) {
    if (*reaction->rewind < log_.acknowledged()) shared_.figures.went_back.fetch_add(1);
    Acknowledged(*reaction->rewind, now);
  }
  if (reaction->acknowledged) Acknowledged(*reaction->acknowledged, now);
  if (reaction->plan) TakePlan(*reaction->plan, now);
  if (reaction->renew) renew_at_ = now;
  if (reaction->drain) End({OkStatus(), false, reaction->drain});
}

void SimAgent::Welcomed(absl::Duration now) {
  DialsNoMore();
  Figures& figures = shared_.figures;
  figures.welcomed.fetch_add(1);
  figures.sessions.fetch_add(1);
  figures.welcomes.Add(now - dialled_at_);
  if (lost_at_ != absl::InfiniteDuration()) figures.returns.Add(now - lost_at_);
  lost_at_ = absl::InfiniteDuration();
}

void SimAgent::Acknowledged(uint64_t sequence, absl::Duration now) {
  size_t batches = 0;
  for (; batches < sent_.size() && sent_[batches].last <= sequence; ++batches) {
    shared_.figures.waits.Add(now - sent_[batches].at);
  }
  sent_.erase(sent_.begin(), sent_.begin() + static_cast<std::ptrdiff_t>(batches));
  shared_.figures.batches.fetch_add(batches);
  if (sequence <= log_.acknowledged()) return;
  shared_.figures.acknowledged.fetch_add(sequence - log_.acknowledged());
  log_.Acknowledge(sequence);
  if (shared_.journal) shared_.journal->Acknowledged(journal_log_, sequence);
}

void SimAgent::TakePlan(const v1::Plan& plan, absl::Duration now) {
  const auto shared_plan = shared_.plans.Take(plan);
  schedule_.Take(shared_plan, now);
  plan_hash_ = plan.hash();
  shared_.figures.reaches.Add(now - absl::Microseconds(shared_.changed_at.load()));
  shared_.figures.plans.fetch_add(1);
  if (shared_.journal) {
    for (const PlannedBrief& check : shared_plan->checks) {
      shared_.journal->Confirm(check.id, check.confirm);
    }
  }
  JournalRecord(log_.AddPlanTaken(plan.hash(), shared_.clock.Now()));
  JournalFolded();
  session_->Available(log_.written(), true, now);
}

void SimAgent::BeginNewLog() {
  log_.StartNewEpoch(RandomUuid());
  JournalLog();
  if (shared_.journal && log_.begin() > 1) shared_.journal->Gap(journal_log_, 1, log_.begin() - 1);
  for (uint64_t at = log_.begin(); at <= log_.written(); ++at) JournalRecord(at);
  End({OkStatus(), true, std::nullopt});
}

void SimAgent::Find(absl::Duration now) {
  bool urgent = false;
  const std::vector<Found> found = schedule_.Run(now, shared_.clock.Now());
  if (found.empty()) return;
  for (const Found& one : found) {
    JournalRecord(log_.Add(one.result));
    if (one.news) shared_.figures.news.fetch_add(1, std::memory_order_relaxed);
    urgent |= one.news;
  }
  JournalFolded();
  shared_.figures.results.fetch_add(found.size(), std::memory_order_relaxed);
  if (Live()) session_->Available(log_.written(), urgent, now);
}

void SimAgent::SendNext(absl::Duration now) {
  if (writing_) return;
  const std::optional<agent::ReadRequest> request = session_->ToSend(now);
  if (!request) return;
  const std::vector<v1::Record> records =
      log_.Read(request->from, request->most_entries, request->most_bytes);
  if (records.empty()) return;
  wire::EncodedBatch batch = Must(wire::EncodeBatch(records), "encode a batch");
  v1::FromAgent message;
  message.mutable_records()->set_first_sequence(batch.span.first);
  message.mutable_records()->set_last_sequence(batch.span.last);
  message.mutable_records()->set_batch(std::move(batch.payload));
  session_->Sent(batch.span, now);
  sent_.push_back({batch.span.last, now});
  writing_ = true;
  write_began_ = now;
  stream_->Write(std::move(message));
}

void SimAgent::CheckTime(absl::Duration now) {
  if (const Status patience = session_->CheckPatience(now); !patience.ok()) {
    return End({patience, false, std::nullopt});
  }
  if (writing_ && now >= write_began_ + kWriteWithin) {
    End({DeadlineExceeded("the control plane takes nothing"), false, std::nullopt});
  }
}

void SimAgent::PlanRenewal() {
  if (!shared_.renew) return;
  const auto times = Must(agent::TimesOf(identity_), "read a certificate");
  renew_at_ = shared_.clock.Uptime() + (times.due - shared_.clock.Now());
}

// On the pool: it blocks.
void SimAgent::Renew() {
  net::ClientIdentity identity;
  std::string server;
  {
    absl::MutexLock lock(&mutex_);
    identity = identity_;
    server = server_;
  }
  StatusOr<agent::Renewed> renewed =
      agent::Renew(server, identity, shared_.clock.Now(), kRenewWithin);
  absl::MutexLock lock(&mutex_);
  renewing_ = false;
  if (!renewed.ok()) {
    shared_.figures.Ended(Annotate(renewed.status(), "renew"));
    renew_at_ = shared_.clock.Uptime() + absl::Minutes(1);
    return SetTimer();
  }
  shared_.figures.renewed.fetch_add(1);
  identity_ = std::move(renewed->identity);
  PlanRenewal();
  if (Live()) End({OkStatus(), true, std::nullopt});
  SetTimer();
}

void SimAgent::JournalLog() {
  if (!shared_.journal) return;
  journal_log_ = shared_.logs.fetch_add(1);
  shared_.journal->Log(journal_log_, name_, log_.epoch());
}

void SimAgent::JournalRecord(uint64_t sequence) {
  if (!shared_.journal || sequence < log_.begin()) return;
  const LoggedResult& entry = log_.entries()[sequence - log_.begin()];
  Journalled record{sequence, entry.check_id, entry.status, entry.observed_at_us};
  if (!log_.IsResult(sequence)) record.status = v1::CHECK_STATUS_UNSPECIFIED;
  shared_.journal->Record(journal_log_, record);
}

void SimAgent::JournalFolded() {
  const auto folded = log_.TakeFolded();
  if (!folded) return;
  shared_.figures.folded.fetch_add(folded->last - folded->first + 1);
  if (shared_.journal) shared_.journal->Gap(journal_log_, folded->first, folded->last);
}

}  // namespace muster::bench
