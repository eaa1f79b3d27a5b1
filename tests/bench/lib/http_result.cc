#include "tests/bench/lib/http_result.h"

#include "lib/wire/time.h"

namespace muster::bench {
namespace {

void AddPhase(v1::ResultDetail& detail, const std::string& name, absl::Duration took) {
  v1::Phase& phase = *detail.add_phases();
  phase.set_name(name);
  *phase.mutable_took() = wire::ToProto(took);
}

void AddMetric(v1::ResultDetail& detail, const std::string& name, double value,
               const std::string& unit) {
  v1::Metric& metric = *detail.add_metrics();
  metric.set_name(name);
  metric.set_value(value);
  metric.set_unit(unit);
}

}  // namespace

std::string HttpSummary(v1::CheckStatus status) {
  return status == v1::CHECK_STATUS_OK ? "http 200" : "http 503, expected 200 to 299";
}

void TellHttp(absl::Duration latency, v1::CheckResult& result) {
  const bool fails = result.status() != v1::CHECK_STATUS_OK;
  v1::ResultDetail& detail = *result.mutable_detail();
  detail.set_summary(HttpSummary(result.status()));
  AddPhase(detail, "connect", latency / 8);
  AddPhase(detail, "first_byte", latency / 2);
  AddPhase(detail, "body", latency / 8);
  AddMetric(detail, "http_status", fails ? 503 : 200, "");
  AddMetric(detail, "body_bytes", 512, "B");
  if (fails) {
    detail.set_transcript("> GET http://127.0.0.1:8080/health\n< HTTP/1.1 503 Service Unavailable");
  }
}

}  // namespace muster::bench
