// What an http check of the benches finds: OK, or a 503.
#pragma once

#include <absl/time/time.h>

#include <string>

#include "muster/v1/record.pb.h"

namespace muster::bench {

std::string HttpSummary(v1::CheckStatus status);
// As an agent's http probe tells it.
void TellHttp(absl::Duration latency, v1::CheckResult& result);

}  // namespace muster::bench
