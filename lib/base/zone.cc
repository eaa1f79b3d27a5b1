#include "lib/base/zone.h"

#include <algorithm>
#include <string>

namespace muster {
namespace {

using Transition = absl::TimeZone::CivilTransition;

constexpr size_t kLongestName = 64;

bool IsZoneName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '+' || c == '-' || c == '/';
  };
  if (name.empty() || name.size() > kLongestName) return false;
  if (!std::all_of(name.begin(), name.end(), allowed)) return false;
  if (name.front() == '/' || name.starts_with("Fixed/") || name.starts_with("right/")) return false;
  return name != "localtime" && name != "posixrules" && name != "Factory";
}

int64_t WallSecond(absl::CivilSecond reading) { return reading - absl::CivilSecond(1970); }

int64_t InstantOf(absl::TimeZone zone, const Transition& transition) {
  return absl::ToUnixSeconds(zone.At(transition.to).trans);
}

}  // namespace

StatusOr<absl::TimeZone> LoadZone(std::string_view name) {
  absl::TimeZone zone;
  if (IsZoneName(name) && absl::LoadTimeZone(AbslView(name), &zone)) return zone;
  return InvalidArgument(
      "time zone \"{}\": this system's tzdata has none of that name; write one of IANA's, such as "
      "Europe/Berlin or UTC (see timedatectl list-timezones)",
      name.substr(0, kLongestName));
}

Stretch StretchAt(absl::TimeZone zone, int64_t unix_second) {
  const absl::Time at = absl::FromUnixSeconds(unix_second);
  Stretch stretch{.offset = zone.At(at).offset};
  stretch.wall_before = stretch.WallBegin();
  Transition change;
  if (zone.PrevTransition(at + absl::Seconds(1), &change)) {
    stretch.begin = InstantOf(zone, change);
    stretch.wall_before = WallSecond(change.from);
  }
  if (zone.NextTransition(at, &change)) stretch.end = InstantOf(zone, change);
  return stretch;
}

}  // namespace muster
