// Any bytes as a cron expression: refused with a message that is one line, or one that comes, whose
// next and last occurrences and counts agree wherever clocks are set forward or back.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lib/base/cron.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"

namespace {

using namespace muster;

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckIn(const Cron& cron, absl::TimeZone zone, absl::Time time) {
  const auto next = cron.Next(time, zone);
  Require(next.has_value() && *next > time);
  const auto last = cron.Previous(*next, zone);
  Require(!last || *last <= time);
  if (last) Require(cron.Count(*last, *next, zone) == 1);
  const auto few = cron.Between(time, *next + absl::Hours(24), 100, zone);
  Require(!few.empty() && few.front() == *next);
  if (few.size() > 1) Require(cron.Next(few[few.size() - 2], zone) == few.back());
  Require(cron.Count(time, few.back(), zone) == static_cast<int64_t>(few.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto cron = Cron::Parse({reinterpret_cast<const char*>(data), size});
  if (!cron.ok()) {
    const std::string_view message = Message(cron.status());
    Require(message == OneLine(message) && message.size() < 2000);
    return 0;
  }
  for (const char* name : {"UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe"}) {
    const absl::TimeZone zone = *LoadZone(name);
    for (const char* time : {"2026-03-08T04:55:00Z", "2026-03-29T00:59:59Z", "2026-10-03T15:10:00Z",
                             "2026-10-25T00:30:00Z", "2026-11-01T04:30:00.5Z"}) {
      CheckIn(*cron, zone, *ParseTime(time));
    }
  }
  return 0;
}
