// For ThreadSanitizer alone: Debian's absl is not instrumented, so the sanitizer does not see that
// absl::Mutex orders anything, and reports every guarded member as a race. The functions here take
// the place of absl's own in a program that is linked with them: they tell the sanitizer, and call
// the real ones. That covers gRPC's mutexes as well.
//
// Await asks its condition in its own thread only, every half a millisecond: the real one lets
// whoever unlocks ask it, after that thread has told the sanitizer that it let go.
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>
#include <unistd.h>

namespace {

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

constexpr useconds_t kAskEveryUs = 500;

// absl's watch over the order of locks works in a library that is not instrumented, under a lock
// that nothing here sees. Every other build of the tests keeps it.
[[maybe_unused]] const bool watch_is_off = [] {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return true;
}();

}  // namespace

namespace absl {

#define REAL(returns, name, ...) \
  static auto* const real = Real<returns(__VA_ARGS__)>("_ZN4absl7debian3" name)

void Mutex::Lock() {
  REAL(void, "5Mutex4LockEv", Mutex*);
  real(this);
  __tsan_acquire(this);
}
void Mutex::Unlock() {
  REAL(void, "5Mutex6UnlockEv", Mutex*);
  __tsan_release(this);
  real(this);
}
bool Mutex::TryLock() {
  REAL(bool, "5Mutex7TryLockEv", Mutex*);
  if (!real(this)) return false;
  __tsan_acquire(this);
  return true;
}
void Mutex::ReaderLock() {
  REAL(void, "5Mutex10ReaderLockEv", Mutex*);
  real(this);
  __tsan_acquire(this);
}
void Mutex::ReaderUnlock() {
  REAL(void, "5Mutex12ReaderUnlockEv", Mutex*);
  __tsan_release(this);
  real(this);
}

void Mutex::Await(const Condition& condition) {
  while (!condition.Eval()) {
    Unlock();
    usleep(kAskEveryUs);
    Lock();
  }
}
bool Mutex::AwaitWithDeadline(const Condition& condition, absl::Time deadline) {
  while (!condition.Eval()) {
    if (absl::Now() >= deadline) return false;
    Unlock();
    usleep(kAskEveryUs);
    Lock();
  }
  return true;
}
bool Mutex::AwaitWithTimeout(const Condition& condition, absl::Duration timeout) {
  return AwaitWithDeadline(condition, absl::Now() + timeout);
}
void Mutex::LockWhen(const Condition& condition) {
  Lock();
  Await(condition);
}

void CondVar::Wait(Mutex* mutex) {
  REAL(void, "7CondVar4WaitEPNS0_5MutexE", CondVar*, Mutex*);
  __tsan_release(mutex);
  real(this, mutex);
  __tsan_acquire(mutex);
}
bool CondVar::WaitWithTimeout(Mutex* mutex, absl::Duration timeout) {
  return WaitWithDeadline(mutex, absl::Now() + timeout);
}
bool CondVar::WaitWithDeadline(Mutex* mutex, absl::Time deadline) {
  REAL(bool, "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE", CondVar*, Mutex*, absl::Time);
  __tsan_release(mutex);
  const bool late = real(this, mutex, deadline);
  __tsan_acquire(mutex);
  return late;
}

void Notification::Notify() {
  REAL(void, "12Notification6NotifyEv", Notification*);
  __tsan_release(this);
  real(this);
}
void Notification::WaitForNotification() const {
  static auto* const real =
      Real<void(const Notification*)>("_ZNK4absl7debian312Notification19WaitForNotificationEv");
  real(this);
  __tsan_acquire(const_cast<Notification*>(this));
}
bool Notification::WaitForNotificationWithTimeout(absl::Duration timeout) const {
  static auto* const real = Real<bool(const Notification*, absl::Duration)>(
      "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = real(this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

#undef REAL

}  // namespace absl
