// Says when cron expressions come, for programs that know it from elsewhere.
//
//   cron_driver           requests on stdin, answers on stdout, both in machine's byte order
//   cron_driver ZONE AFTER COUNT EXPRESSION     the next COUNT after that time, a line each
//
// A request is a line: ZONE, BEGIN and END in Unix seconds, EXPRESSION, between tabs. The answer is
// an int64, how many occurrences lie in [BEGIN, END), or -1 and the refusal on stderr; then as many
// int32, the seconds from each to the next, of the first from BEGIN.
//
// Each answer is made with Between, and held against Next, Previous and Count on the way: the
// program ends with 1 if they disagree.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "lib/base/cron.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"

namespace {

using namespace muster;

constexpr size_t kAll = 500'000'000;
constexpr size_t kCheckedEach = 2'000;  // occurrences that are checked one by one

void Fail(std::string_view what, const std::string& request) {
  std::fprintf(stderr, "%s: %.*s disagrees\n", request.c_str(), static_cast<int>(what.size()),
               what.data());
  std::exit(1);
}

void Check(const Cron& cron, absl::TimeZone zone, const std::vector<absl::Time>& all,
           absl::Time begin, absl::Time end, const std::string& request) {
  const absl::Time before = begin - absl::Nanoseconds(1), last = end - absl::Nanoseconds(1);
  if (cron.Count(before, last, zone) != static_cast<int64_t>(all.size())) Fail("Count", request);
  const size_t step = 1 + all.size() / kCheckedEach;
  for (size_t i = 0; i < all.size(); i += step) {
    if (cron.Next(i == 0 ? before : all[i - 1], zone) != all[i]) Fail("Next", request);
    if (i > 0 && cron.Previous(all[i], zone) != all[i - 1]) Fail("Previous", request);
  }
}

void Write(const void* data, size_t size) {
  if (size > 0) std::fwrite(data, 1, size, stdout);  // of nothing the pointer may be null
}

void Answer(const std::string& request) {
  const std::vector<std::string_view> parts = Split(request, '\t');
  if (parts.size() != 4) Fail("the request's form", request);
  const auto zone = LoadZone(parts[0]);
  const auto cron = Cron::Parse(parts[3]);
  int64_t count = -1;
  if (!zone.ok() || !cron.ok()) {
    std::fprintf(stderr, "%s\n", Text(zone.ok() ? cron.status() : zone.status()).c_str());
    Write(&count, sizeof count);
    return;
  }
  const int64_t begin = std::atoll(std::string(parts[1]).c_str());
  const absl::Time from = absl::FromUnixSeconds(begin);
  const absl::Time until = absl::FromUnixSeconds(std::atoll(std::string(parts[2]).c_str()));
  const auto all = cron->Between(from - absl::Seconds(1), until - absl::Seconds(1), kAll, *zone);
  Check(*cron, *zone, all, from, until, request);
  std::vector<int32_t> distances;
  distances.reserve(all.size());
  int64_t last = begin;
  for (const absl::Time at : all) {
    distances.push_back(static_cast<int32_t>(absl::ToUnixSeconds(at) - last));
    last = absl::ToUnixSeconds(at);
  }
  count = static_cast<int64_t>(all.size());
  Write(&count, sizeof count);
  Write(distances.data(), distances.size() * sizeof(int32_t));
}

int Show(char** arguments) {
  const auto zone = LoadZone(arguments[1]);
  const auto after = ParseTime(arguments[2]);
  const auto cron = Cron::Parse(arguments[4]);
  for (const Status& status : {zone.status(), after.status(), cron.status()}) {
    if (status.ok()) continue;
    std::fprintf(stderr, "%s\n", Text(status).c_str());
    return 1;
  }
  const auto most = static_cast<size_t>(std::atoi(arguments[3]));
  for (const absl::Time at : cron->Between(*after, absl::InfiniteFuture(), most, *zone)) {
    std::puts(absl::FormatTime("%Y-%m-%d %H:%M:%S %Ez", at, *zone).c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5) return Show(argv);
  if (argc != 1) {
    std::fprintf(stderr, "usage: %s [ZONE AFTER COUNT EXPRESSION]\n", argv[0]);
    return 2;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    Answer(line);
    std::fflush(stdout);
  }
  return 0;
}
