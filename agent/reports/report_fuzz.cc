// Any bytes as a report: refused, or told in records that a control plane takes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/reports/report.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using muster::agent::ReportName;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  for (const auto kind : {ReportName::Kind::kStart, ReportName::Kind::kEnd}) {
    const ReportName name{"0a1b2c3d-4e5f-4678-9abc-def012345678", kind};
    const auto report = muster::agent::ReadReport(bytes, name, now);
    if (!report.ok()) continue;
    if (report->began > now || report->run_id != name.run_id) std::abort();
    const auto told = muster::agent::RecordsOf(*report, "deploy", muster::agent::Telling::kAll);
    // What was taken can be written again, and is taken again.
    if (told.ok() && !muster::agent::ReadReport(muster::agent::Pack(*report), name, now).ok()) {
      std::abort();
    }
  }
  return 0;
}
