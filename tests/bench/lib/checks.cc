#include "tests/bench/lib/checks.h"

#include <algorithm>

#include "lib/base/clock.h"
#include "lib/wire/time.h"
#include "tests/bench/lib/must.h"

namespace muster::bench {
namespace {

v1::Document CheckDocument(uint32_t number, absl::Duration every) {
  v1::Document document;
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name(CheckName(number));
  v1::CheckSpec& spec = *document.mutable_check();
  *spec.mutable_every() = wire::ToProto(every);
  *spec.mutable_timeout() = wire::ToProto(std::min(every, absl::Seconds(2)));
  spec.mutable_confirm()->set_failures(2);
  spec.mutable_confirm()->set_successes(1);
  spec.mutable_probe()->mutable_http()->set_url("http://127.0.0.1:8080/health");
  return document;
}

}  // namespace

std::string CheckName(uint32_t number) { return fmt::format("check-{:03}", number); }

void ApplyChecks(control::Store& store, uint32_t checks, absl::Duration every) {
  std::vector<v1::Document> documents;
  for (uint32_t i = 1; i <= checks; ++i) documents.push_back(CheckDocument(i, every));
  Must(
      store.specs().Apply(documents, {"bench", "spec.apply", "", "", SystemClock().Now()}).status(),
      "apply the checks");
  if (Must(store.specs().CheckId(CheckName(1)), "number a check") != 1)
    Fail("checks are not numbered from 1");
}

}  // namespace muster::bench
