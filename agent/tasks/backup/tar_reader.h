// A tar archive that comes in pieces, as restic writes one: ustar and pax headers. Keeps nothing
// but the headers; what comes is trusted by nobody. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "lib/base/status.h"

namespace muster::agent::backup {

class TarReader {
 public:
  struct Sink {
    // A regular file begins; its path has no slash in front.
    std::function<void(const std::string& path, uint64_t size)> begin;
    std::function<void(std::string_view bytes)> bytes;
    std::function<void()> end;
  };
  explicit TarReader(Sink sink) : sink_(std::move(sink)) {}

  // DataLoss for what is no archive; then nothing more is taken.
  Status Take(std::string_view bytes);
  // DataLoss unless the archive came to its end.
  Status Finish() const;

 private:
  Status TakeHeader();
  Status ReadPax();
  void EndBody();

  static constexpr size_t kBlock = 512;
  static constexpr uint64_t kMostPax = 1 << 20;

  const Sink sink_;
  Status broken_;
  std::string block_;     // of a header, until it is whole
  std::string pax_;       // the body of a pax header
  std::string pax_path_;  // for the next file
  uint64_t pax_size_ = 0;
  bool has_pax_size_ = false;
  enum class Body { kNone, kFile, kPax, kSkipped } body_ = Body::kNone;
  uint64_t left_ = 0;     // of the body
  uint64_t padding_ = 0;  // behind it
  int empty_blocks_ = 0;  // two of them are the end
};

}  // namespace muster::agent::backup
