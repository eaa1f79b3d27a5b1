// Which of the runs that are due may begin now: what they claim is free, their host has room. Pure.
//
// A claim is a name that one run at a time may hold: "database/orders" keeps backup, migration,
// restore drill and load test of one database apart; "job/orders-nightly" keeps a job's runs apart.
//
// Fair: runs are looked at from the longest due on. One that cannot begin keeps its claims from
// those behind it, so that a run that needs two databases gets both in the end; it keeps nothing
// else, so that no run waits for one that it shares no claim and no host with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <absl/time/time.h>

namespace muster::control {

struct Claimant {
  std::string run;
  absl::Time due;    // since when it may begin: it is not looked at before
  std::string host;  // where it runs; empty if on none
  std::vector<std::string> claims;
  absl::Time start_by = absl::InfiniteFuture();  // a run that has not begun by then is missed
};

struct AdmissionFacts {
  std::vector<Claimant> running;
  std::vector<Claimant> waiting;
  uint32_t per_host = 4;  // runs at once on one host
};

// A run, and why: who holds what it needs.
struct HeldRun {
  std::string run;
  std::string reason;
};

struct AdmissionPlan {
  std::vector<std::string> start;  // longest due first
  std::vector<HeldRun> held;
  std::vector<HeldRun> missed;  // past their start_by
  absl::Time next_look =
      absl::InfiniteFuture();  // the next moment at which time alone changes this
};

AdmissionPlan Admit(AdmissionFacts facts, absl::Time now);

}  // namespace muster::control
