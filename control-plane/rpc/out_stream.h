// What a stream of answers needs: admission, one write in flight, one Finish, and itself alive to
// OnDone. A stream derives from it, and has Drained (all that was put is sent) and Gone.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/rpc/gate.h"
#include "lib/net/status.h"

namespace muster::control {

template <typename Message, typename Derived>
class OutStream : public grpc::ServerWriteReactor<Message>,
                  public std::enable_shared_from_this<Derived> {
 public:
  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) queue_.clear();
      WriteNext();
      if (writing_ || !queue_.empty()) return;
    }
    if (ok) static_cast<Derived*>(this)->Drained();
  }
  void OnCancel() override {
    if (admission_.has_value()) admission_->Cancelled();
    End(OkStatus());
  }
  void OnDone() override {
    std::shared_ptr<Derived> self;
    {
      absl::MutexLock lock(&mutex_);
      self = std::move(self_);
    }
    registration_.reset();
    admission_.reset();
    static_cast<Derived*>(this)->Gone();
  }

 protected:
  bool Begin(Gate& gate, grpc::CallbackServerContext& context, std::string_view method) {
    {
      absl::MutexLock lock(&mutex_);
      self_ = this->shared_from_this();
    }
    StatusOr<Admission> admission = gate.Admit(context, method);
    if (!admission.ok()) {
      End(admission.status());
      return false;
    }
    admission_.emplace(std::move(*admission));
    registration_.emplace(gate.RegisterStream(
        admission_->identity(), [stream = std::weak_ptr<Derived>(this->shared_from_this())] {
          if (const auto self = stream.lock())
            self->End(PermissionDenied("the certificate was revoked"));
        }));
    return true;
  }

  // False once the stream has ended.
  bool Put(Message message) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return false;
    queue_.push_back(std::move(message));
    WriteNext();
    return true;
  }

  // The same with many: Drained comes once, after the last of them.
  bool PutAll(std::vector<Message> messages) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return false;
    for (Message& message : messages) queue_.push_back(std::move(message));
    WriteNext();
    return true;
  }

  // After what is queued is sent.
  void End(const Status& status) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    ended_ = true;
    status_ = status;
    if (!status.ok()) queue_.clear();
    WriteNext();
  }

  size_t Queued() const {
    absl::MutexLock lock(&mutex_);
    return queue_.size();
  }
  bool Ended() const {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }

 private:
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (queue_.empty()) {
      if (!ended_) return;
      finished_ = true;
      this->Finish(net::ToGrpc(status_));
      return;
    }
    sending_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    this->StartWrite(&sending_);
  }

  std::optional<Admission> admission_;
  std::optional<Gate::Registration> registration_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Derived> self_ ABSL_GUARDED_BY(mutex_);
  std::deque<Message> queue_ ABSL_GUARDED_BY(mutex_);
  Message sending_ ABSL_GUARDED_BY(mutex_);
  Status status_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster::control
