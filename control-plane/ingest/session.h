// The control plane's side of one agent's session, without I/O: messages in, what to store and to
// send out.
//
//            Hello                     Records (window not full)
//   opening ───────► open ──────────────► open + one batch on its way to the store
//                     │ ◄──────────────────  Stored: Ack
//                     └── anything out of order, refused by the store, or unreadable: closed
//
// One thread at a time may call.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "control-plane/ingest/evaluate.h"
#include "control-plane/ingest/plan.h"
#include "control-plane/store/observations.h"
#include "control-plane/store/session_store.h"
#include "lib/base/status.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::control {

struct SessionSettings {
  uint32_t window = 4;
  uint32_t batch_entries = 2048;
  uint32_t batch_bytes = 512 * 1024;
  absl::Duration flush = absl::Seconds(5);
};

// What a Hello says, checked. InvalidArgument for one that cannot be.
StatusOr<SessionOpening> ReadHello(const v1::Hello& hello, std::string_view agent,
                                   std::string_view replica, absl::Time now);

class ServerSession {
 public:
  ServerSession(SessionOpening opening, OpenedSession opened, AgentStates states,
                SessionSettings settings);

  v1::ToAgent Welcome(std::string_view store_epoch, absl::Time now) const;

  // The plan that the agent must have now. True if it is another than the last one set here.
  bool SetPlan(v1::Plan plan);
  // Whether the agent said, in Hello or in its log, that it works by this plan.
  bool PlanTaken() const { return taken_hash_ == plan_.hash(); }
  const v1::Plan& plan() const { return plan_; }
  void SetAgentPlanHash(std::string hash) { taken_hash_ = std::move(hash); }

  // A batch, ready to be stored. InvalidArgument: the agent's batch cannot be; FailedPrecondition:
  // it does not follow; ResourceExhausted: over the window or a limit. After an error the session
  // is over.
  StatusOr<BatchCommit> Take(const v1::Records& records, absl::Time now);
  // The batch that ended at `sequence` is committed.
  v1::ToAgent Stored(uint64_t sequence);
  bool WindowFull() const { return in_flight_ >= settings_.window; }

  // What the store holds may have changed behind the session: take these states for the evaluation.
  void Reload(AgentStates states);

  const std::string& agent() const { return opening_.agent; }
  const Labels& labels() const { return opened_.labels; }
  uint64_t epoch() const { return opened_.epoch; }
  uint64_t stored_sequence() const { return stored_; }
  const KnownStates& states() const { return states_; }

 private:
  // Of every known check, packed.
  std::string Observations() const;
  // By what time history files a batch whose newest observation is this one.
  absl::Time FiledAt(absl::Time last_observed_at);

  const SessionOpening opening_;
  const OpenedSession opened_;
  const SessionSettings settings_;
  v1::Plan plan_;
  std::string taken_hash_;
  Confirmations confirmations_;
  KnownStates states_;
  uint64_t states_epoch_ = 0;
  absl::Time filed_at_ = absl::InfinitePast();
  uint64_t stored_;    // committed
  uint64_t received_;  // taken, perhaps not committed yet
  uint32_t in_flight_ = 0;
};

}  // namespace muster::control
