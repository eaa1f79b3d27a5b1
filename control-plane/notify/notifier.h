// Empties the outbox: what is due is sent, each receiver one message at a time, receivers beside
// one another. At least once: an attempt whose outcome could not be stored is made again. All its
// state is in the store, but for the pause of a receiver that has just failed. A notifier is one
// leader's, for one term.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/notify/sender.h"
#include "control-plane/store/store.h"
#include "lib/base/backoff.h"
#include "lib/base/random.h"
#include "lib/exec/threads.h"

namespace muster::control {

struct NotifierOptions {
  LeaderEpoch epoch;  // its writes carry it
  // Whether the term lasts. Nothing is sent once it is over.
  std::function<bool()> may_send = [] { return true; };
  // A write was refused because another leads.
  std::function<void(const Status&)> on_fenced = [](const Status&) {};
  size_t threads = 8;                             // receivers that are told at the same time
  uint32_t batch = 2000;                          // outbox rows looked at in one round
  absl::Duration poll = absl::Milliseconds(200);  // how late a due row may be noticed
  Backoff backoff = {.first = absl::Seconds(5), .longest = absl::Minutes(10)};
  absl::Duration give_up = absl::Hours(24);  // after the decision to tell
  SenderOptions sender;
  // After each attempt, for metrics. kind: as ReceiverKind; outcome: "delivered", "retry",
  // "failed".
  std::function<void(std::string_view kind, std::string_view outcome)> on_attempt =
      [](std::string_view, std::string_view) {};
};

// The references must outlive the notifier. Wake may be called by any thread.
class Notifier {
 public:
  Notifier(Store& store, const Clock& clock, Random& random, NotifierOptions options);
  ~Notifier();
  // There may be something new in the outbox.
  void Wake();
  // Ends attempts that run; they count as failed. Safe to repeat.
  void Stop();

 private:
  using Receivers = std::map<std::string, v1::ReceiverSpec>;
  bool Stopping() const { return stopping_ || !options_.may_send(); }
  void Tick();
  Status Round(absl::Time now);
  StatusOr<std::shared_ptr<const Receivers>> ReadReceivers();
  std::map<std::string, absl::Time> BusyReceivers();
  void Hand(const std::string& receiver, std::vector<OutboxRow> rows);
  void TellAll(const std::string& receiver, const std::vector<OutboxRow>& rows);
  // False: the receiver is to be left alone for a while.
  bool TellOne(const std::string& receiver, OutboxRow row);
  OutboxRow AfterAttempt(OutboxRow row, const Outcome& outcome, absl::Time now);

  Store& store_;
  const Clock& clock_;
  Random& random_;
  const NotifierOptions options_;
  Sender sender_;

  std::atomic<bool> woken_ = true;
  std::atomic<bool> stopping_ = false;
  absl::Time next_look_ = absl::InfinitePast();  // owned by the loop's thread
  std::string last_problem_;                     // owned by the loop's thread

  absl::Mutex mutex_;
  std::shared_ptr<const Receivers> receivers_ ABSL_GUARDED_BY(mutex_);
  uint64_t receivers_revision_ ABSL_GUARDED_BY(mutex_) = 0;
  // Receivers that are being told (InfiniteFuture), or are left alone until then.
  std::map<std::string, absl::Time> busy_until_ ABSL_GUARDED_BY(mutex_);

  // Last: their threads use all the others.
  exec::Pool pool_;
  exec::PeriodicLoop loop_;
};

}  // namespace muster::control
