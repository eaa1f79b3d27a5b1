// The agent's side of one session (docs/architecture/session.md), without I/O: events in, what to
// do out. The same code runs under gRPC and in the simulation. One thread at a time.
//
//   Hello sent ──Welcome──► streaming ──Drain, an error of the peer──► over
//                             │  ▲
//                    Records  ▼  │  Ack: the window opens
//                          waiting for credit
//
// Times are Clock::Uptime.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/base/status.h"
#include "lib/wire/columns.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

// What the caller must do after a message of the control plane; several may be set.
struct Reaction {
  std::optional<uint64_t> rewind;              // Spool::Rewind: a Welcome said what is stored
  std::optional<uint64_t> acknowledged;        // Spool::Acknowledge
  std::optional<v1::Checkpoint> checkpoint;    // Witness::Take
  std::optional<v1::Assignments> assignments;  // the runs that are to be on our hands
  std::optional<absl::Time> server_time;       // by the control plane's clock: it is that now
  std::optional<v1::Plan> plan;                // take it, and write PlanTaken to the log
  bool new_log_epoch = false;                  // Spool::StartNewEpoch, then a new session
  bool renew = false;                          // ask for a new certificate
  std::optional<absl::Duration> drain;  // end the session; reconnect after this plus a jitter
  std::vector<std::string> servers;     // the control plane's addresses, if it named any
};

struct ReadRequest {
  uint64_t from = 0;
  size_t most_entries = 0;
  size_t most_bytes = 0;
};

struct HelloFacts {
  std::string version;
  std::string boot_id;
  std::string plan_hash;
  absl::Time agent_time;
  std::map<std::string, std::string> facts;
  std::optional<v1::Checkpoint> witnessed;
};

v1::FromAgent MakeHello(const LogBounds& log, const HelloFacts& facts);

class ClientSession {
 public:
  // `written` is the log's last sequence when the Hello was made.
  ClientSession(uint64_t written, absl::Duration now) : available_(written), opened_at_(now) {}

  // FailedPrecondition: what the control plane sent cannot be; end the session.
  StatusOr<Reaction> Received(const v1::ToAgent& message, absl::Duration now);

  // The log holds records up to `written`. Urgent ones do not wait for the flush time.
  void Available(uint64_t written, bool urgent, absl::Duration now);
  // Everything that is there is sent without waiting for company.
  void FlushNow() { urgent_through_ = available_; }
  // What is there is sent by then, if it would wait longer.
  void FlushBy(absl::Duration when) { flush_by_ = std::min(flush_by_, when); }

  // What to read and send now, if anything.
  std::optional<ReadRequest> ToSend(absl::Duration now) const;
  void Sent(const wire::Span& span, absl::Duration now);

  // When something is to be looked at again without an event.
  absl::Duration NextTick() const;
  // DeadlineExceeded once the control plane has said nothing for too long while it should have.
  Status CheckPatience(absl::Duration now) const;

  bool welcomed() const { return welcomed_; }
  bool all_acknowledged() const { return welcomed_ && committed_ >= available_; }
  const std::string& store_epoch() const { return store_epoch_; }
  uint64_t committed() const { return committed_; }

 private:
  StatusOr<Reaction> TakeWelcome(const v1::Welcome& welcome, absl::Duration now);
  StatusOr<Reaction> TakeAck(const v1::Ack& ack, absl::Duration now);
  bool FlushIsDue(absl::Duration now) const;

  uint64_t available_;
  const absl::Duration opened_at_;
  bool welcomed_ = false;
  std::string store_epoch_;
  uint64_t next_ = 0;  // to be sent
  uint64_t committed_ = 0;
  uint64_t urgent_through_ = 0;
  absl::Duration gathering_since_ = absl::InfiniteDuration();
  absl::Duration flush_by_ = absl::InfiniteDuration();
  absl::Duration waiting_since_ = absl::InfiniteDuration();  // for the oldest acknowledgement
  std::deque<uint64_t> in_flight_;                           // the last sequence of each batch
  uint32_t window_ = 1;
  size_t batch_entries_ = 1;
  size_t batch_bytes_ = 1;
  absl::Duration flush_ = absl::Seconds(5);
};

}  // namespace muster::agent
