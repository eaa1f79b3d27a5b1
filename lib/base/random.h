// Random draws. Secrets come from RandomBytes, jitter and splay from a Random that a test can seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <absl/time/time.h>

namespace muster {

// `size` bytes from the kernel's generator. Aborts if it has none, which Linux never lets happen.
std::string RandomBytes(size_t size);

// Any thread may call.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;
  // Uniform in [0, bound). Zero for a bound of zero or less.
  absl::Duration Below(absl::Duration bound);
  uint64_t Below(uint64_t bound);
};

// Seeded by the kernel.
std::unique_ptr<Random> SystemRandom();
// The same draws for the same seed, on every machine.
std::unique_ptr<Random> SeededRandom(uint64_t seed);

}  // namespace muster
