// The one line that shows how a run goes: state, time, a bar, rate and what is left. Pure; one
// thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include <absl/time/time.h>

#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

class RunMeter {
 public:
  void Take(const v1::Run& run, absl::Time now);

  // At most `width` characters, without a newline. Says no rate before a second has passed, or
  // where nothing came of the last half minute.
  //   RUNNING  db-1  1m12s  [########............]  41%  4.1 of 10.0 GiB  57.2 MiB/s  1m46s left
  std::string Line(absl::Time now, size_t width) const;

 private:
  struct Sample {
    absl::Time at;
    uint64_t done;
  };
  double Rate(absl::Time now) const;  // a second; 0 where it is not known

  v1::Run run_;
  std::deque<Sample> samples_;  // of one attempt, oldest first, of the last half minute
};

}  // namespace muster::ctl
