#include "lib/base/random.h"

#include <sys/random.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

namespace muster {
namespace {

class Mersenne final : public Random {
 public:
  explicit Mersenne(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override {
    absl::MutexLock lock(&mutex_);
    return engine_();
  }

 private:
  absl::Mutex mutex_;
  std::mt19937_64 engine_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  size_t filled = 0;
  while (filled < size) {
    const ssize_t got = getrandom(bytes.data() + filled, size - filled, 0);
    if (got < 0 && errno != EINTR) std::abort();
    if (got > 0) filled += static_cast<size_t>(got);
  }
  return bytes;
}

uint64_t Random::Below(uint64_t bound) {
  if (bound == 0) return 0;
  // The high half of the 128-bit product: uniform to within 2^-64 · bound.
  return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
}

absl::Duration Random::Below(absl::Duration bound) {
  if (bound <= absl::ZeroDuration()) return absl::ZeroDuration();
  return absl::Nanoseconds(
      static_cast<int64_t>(Below(static_cast<uint64_t>(absl::ToInt64Nanoseconds(bound)))));
}

std::unique_ptr<Random> SystemRandom() {
  uint64_t seed = 0;
  const std::string bytes = RandomBytes(sizeof seed);
  std::memcpy(&seed, bytes.data(), sizeof seed);
  return SeededRandom(seed);
}

std::unique_ptr<Random> SeededRandom(uint64_t seed) { return std::make_unique<Mersenne>(seed); }

}  // namespace muster
