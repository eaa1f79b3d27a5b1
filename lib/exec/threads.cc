#include "lib/exec/threads.h"

#include <pthread.h>

namespace muster::exec {

void NameThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

Thread::Thread(std::string name, absl::AnyInvocable<void()> body)
    : thread_([name = std::move(name), body = std::move(body)]() mutable {
        NameThread(name);
        body();
      }) {}

Thread::~Thread() { Join(); }

Thread& Thread::operator=(Thread&& other) {
  Join();
  thread_ = std::move(other.thread_);
  return *this;
}

void Thread::Join() {
  if (thread_.joinable()) thread_.join();
}

Pool::Pool(std::string name, size_t threads, size_t bound) : bound_(bound) {
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name] {
      NameThread(name);
      Work();
    });
  }
}

Pool::~Pool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

bool Pool::Submit(absl::AnyInvocable<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ || queue_.size() >= bound_) return false;
  queue_.push_back(std::move(task));
  return true;
}

size_t Pool::queued() const {
  absl::MutexLock lock(&mutex_);
  return queue_.size();
}

void Pool::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    queue_.clear();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Pool::Work() {
  while (true) {
    absl::AnyInvocable<void()> task;
    {
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !queue_.empty();
      };
      absl::MutexLock lock(&mutex_, absl::Condition(&ready));
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

PeriodicLoop::PeriodicLoop(std::string name, absl::Duration period, absl::AnyInvocable<void()> tick)
    : period_(period), tick_(std::move(tick)) {
  thread_ = std::thread([this, name = std::move(name)] {
    NameThread(name);
    Work();
  });
}

PeriodicLoop::~PeriodicLoop() { Stop(); }

void PeriodicLoop::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

void PeriodicLoop::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void PeriodicLoop::Work() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      const auto due = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return woken_ || stopping_; };
      mutex_.AwaitWithTimeout(absl::Condition(&due), period_);
      if (stopping_) return;
      woken_ = false;
    }
    tick_();
  }
}

}  // namespace muster::exec
