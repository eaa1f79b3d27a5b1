// What is measured: something that serves AgentLink and makes batches durable before it
// acknowledges them. Made on a cluster that does not serve yet, which must outlive it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/ingest/feed.h"
#include "tests/bench/ingest/fleet.h"
#include "tests/bench/lib/cluster.h"

namespace muster::bench {

struct Stored {
  uint64_t results = 0;
  uint64_t commits = 0;
  uint64_t state_rows = 0;  // written, a state that was written twice counts twice
  uint64_t transitions = 0;
};

class Subject {
 public:
  virtual ~Subject() = default;
  virtual grpc::Service& service() = 0;
  virtual uint64_t commits() const = 0;
  // After the streams have ended. Fails unless each agent's log is in the store from its first
  // result to at least the last acknowledged one, each batch once, in order and as it was sent.
  virtual Stored Verify(const std::vector<Told>& told, Feed& feed) = 0;
  // Ends it, after the cluster has stopped serving; the bytes of its database file afterwards.
  virtual uint64_t Close() = 0;
};

// The control plane itself: gate, hub, sessions, evaluation, committer, store. `checks` are applied
// to every agent and get the numbers 1 to `checks`.
std::unique_ptr<Subject> MakeProduct(Cluster& cluster, uint32_t checks, absl::Duration every);

// No code of muster's between gRPC and the database: the batch's bytes go into one bounded queue,
// and one thread inserts them as blobs, many batches a transaction, with the settings of the store.
std::unique_ptr<Subject> MakeCeiling(Cluster& cluster);

}  // namespace muster::bench
