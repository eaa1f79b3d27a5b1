#include <optional>

#include "control-plane/rpc/agent_hub.h"
#include "control-plane/rpc/agent_link_service.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/witnesses.h"
#include "control-plane/store/columns.h"
#include "lib/base/clock.h"
#include "tests/bench/ingest/subject.h"
#include "tests/bench/lib/checks.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

class Product final : public Subject {
 public:
  Product(Cluster& cluster, uint32_t checks, absl::Duration every)
      : cluster_(cluster),
        clock_(SystemClock()),
        gate_(std::in_place, store().identity(), clock_, control::GateOptions{}) {
    ApplyChecks(store(), checks, every);
    const absl::Time now = clock_.Now();
    Must(store().history().MakeDays(now, now + absl::Hours(24)).status(), "make history's days");
    control::HubOptions options;
    options.replica = "r-bench";
    witnesses_.emplace(store().audit(), cluster_.authority(), clock_);
    hub_.emplace(store(), *witnesses_, clock_, std::move(options));
    link_.emplace(*hub_, *gate_);
  }

  grpc::Service& service() override { return *link_; }
  uint64_t commits() const override { return hub_->committer().counts().commits; }

  Stored Verify(const std::vector<Told>& told, Feed& feed) override {
    Stored stored;
    for (const Told& agent : told) stored.results += VerifyLog(agent, feed);
    Must(store().database().Read([&](sql::Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const int64_t states, control::LastValue(t, control::kStateRevision));
      MUSTER_ASSIGN_OR_RETURN(const int64_t transitions, control::LastValue(t, "transition"));
      stored.state_rows = control::Unsigned(states);
      stored.transitions = control::Unsigned(transitions);
      return OkStatus();
    }),
         "read the counters");
    return stored;
  }

  uint64_t Close() override {
    link_.reset();
    hub_.reset();
    witnesses_.reset();
    gate_.reset();
    return cluster_.CloseStore();
  }

 private:
  control::Store& store() { return cluster_.store(); }

  // How many results of the agent are stored.
  uint64_t VerifyLog(const Told& told, Feed& feed) {
    const auto row = Must(store().sessions().Find(told.agent), "find the agent");
    if (!row) Fail(told.agent + " is not in the store");
    uint64_t last = 0;
    bool as_sent = true;
    const auto take = [&](const control::Segment& segment) {
      const v1::Records& sent = feed.Batch(last / feed.batch()).records();
      as_sent = segment.log_epoch == told.log_epoch && segment.first_sequence == last + 1 &&
                segment.last_sequence == sent.last_sequence() && segment.payload == sent.batch();
      last = segment.last_sequence;
      return as_sent;
    };
    Must(store().history().ReadSegments(told.agent, absl::UnixEpoch(), clock_.Now(), take),
         "read the history");
    if (!as_sent) Fail(fmt::format("the batch of {} up to {} is not as sent", told.agent, last));
    if (last < told.acknowledged || last != row->committed_sequence) {
      Fail(fmt::format("{} was told {}, its cursor says {} and {} is stored", told.agent,
                       told.acknowledged, row->committed_sequence, last));
    }
    return last;
  }

  Cluster& cluster_;
  const Clock& clock_;
  std::optional<control::Gate> gate_;
  std::optional<control::Witnesses> witnesses_;
  mutable std::optional<control::AgentHub> hub_;
  std::optional<control::AgentLinkService> link_;
};

}  // namespace

std::unique_ptr<Subject> MakeProduct(Cluster& cluster, uint32_t checks, absl::Duration every) {
  return std::make_unique<Product>(cluster, checks, every);
}

}  // namespace muster::bench
