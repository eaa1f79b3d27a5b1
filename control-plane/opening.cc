#include "control-plane/opening.h"

#include "lib/base/backoff.h"
#include "lib/base/log.h"
#include "lib/base/random.h"

namespace muster::control {
namespace {

StatusOr<Opened> OpenStore(const Config& config, const Secret& key) {
  Opened opened;
  MUSTER_ASSIGN_OR_RETURN(opened.store, Store::Open(config.StoreUrl()));
  MUSTER_ASSIGN_OR_RETURN(opened.authority, Authority::Load(opened.store->identity(), key,
                                                            SystemClock(), config.lifetimes));
  return opened;
}

}  // namespace

StatusOr<std::optional<Opened>> AwaitStore(const Config& config, const Secret& key, Front& front,
                                           const StopSignals& signals) {
  constexpr Backoff kBackoff{.first = absl::Milliseconds(250), .longest = absl::Seconds(2)};
  const std::unique_ptr<Random> random = SystemRandom();
  std::string last_problem;
  for (uint32_t failures = 0;; ++failures) {
    StatusOr<Opened> opened = OpenStore(config, key);
    if (opened.ok()) return std::optional<Opened>(std::move(*opened));
    if (!config.IsPostgres() || !absl::IsUnavailable(opened.status())) return opened.status();
    std::string problem = muster::Text(opened.status());
    if (problem != last_problem) {
      LogError("waits for the store",
               {{"error", opened.status()},
                {"next", "start PostgreSQL, or mend the way to it: it is tried until it answers"}});
    }
    front.readiness.Not(Unavailable("waits for the store: {}", Message(opened.status())));
    last_problem = std::move(problem);
    if (const auto signal = signals.WaitFor(FullJitter(kBackoff, failures, *random))) {
      LogInfo("stopped before the store answered", {{"signal", *signal}});
      return std::optional<Opened>();
    }
  }
}

}  // namespace muster::control
