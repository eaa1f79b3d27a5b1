#include "lib/redis/hints.h"

namespace muster::redis {
namespace {

class Nobody final : public Hints {
 public:
  void Subscribe(HintListener) override {}
  void Start() override {}
  void Stop() override {}
  void Publish(Topic, std::string_view) override {}
  HintsHealth health() const override { return {}; }
};

}  // namespace

std::string_view TopicName(Topic topic) {
  switch (topic) {
    case Topic::kSpecs: return "specs";
    case Topic::kTransitions: return "transitions";
    case Topic::kReplicas: return "replicas";
    case Topic::kRevocations: return "revocations";
    case Topic::kStates: return "states";
    case Topic::kRuns: return "runs";
  }
  return "";
}

std::unique_ptr<Hints> NoHints() { return std::make_unique<Nobody>(); }

}  // namespace muster::redis
