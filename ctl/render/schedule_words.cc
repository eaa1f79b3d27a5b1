#include "ctl/render/schedule_words.h"

#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

using Words = std::optional<std::string>;  // nothing: it has no short words

constexpr std::array<std::string_view, 7> kWeekdays = {"SUN", "MON", "TUE", "WED",
                                                       "THU", "FRI", "SAT"};
constexpr std::array<std::string_view, 7> kWeekdayWords = {
    "Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays"};
constexpr std::array<std::string_view, 12> kMonths = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN",
                                                      "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};
constexpr std::array<std::string_view, 12> kMonthWords = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};

std::optional<int> Number(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool IsAny(std::string_view field) { return field == "*" || field == "?"; }

// n of "*/n", where n divides `whole`: only then are the distances even.
std::optional<int> Step(std::string_view field, int whole) {
  if (!field.starts_with("*/")) return std::nullopt;
  const std::optional<int> step = Number(field.substr(2));
  return step.has_value() && *step > 0 && whole % *step == 0 ? step : std::nullopt;
}

// The index of a name in capitals or small letters, or the number less `first`.
template <size_t N>
std::optional<size_t> Index(std::string_view text, const std::array<std::string_view, N>& names,
                            int first) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  for (size_t i = 0; i < N; ++i)
    if (names[i] == upper) return i;
  const std::optional<int> number = Number(text);
  if (!number.has_value() || *number < first) return std::nullopt;
  return static_cast<size_t>(*number - first) % N;
}

// "a", "a and b", "a, b and c".
std::string Listed(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

// A list of names and ranges of them, such as MON-FRI,SUN.
template <size_t N>
Words Names(std::string_view field, const std::array<std::string_view, N>& names,
            const std::array<std::string_view, N>& words, int first) {
  std::vector<std::string> all;
  for (const std::string_view part : Split(field, ',')) {
    const size_t dash = part.find('-');
    const auto from = Index(part.substr(0, dash), names, first);
    const auto until =
        dash == std::string_view::npos ? from : Index(part.substr(dash + 1), names, first);
    if (!from.has_value() || !until.has_value()) return std::nullopt;
    all.push_back(from == until ? std::string(words[*from])
                                : fmt::format("{} to {}", words[*from], words[*until]));
  }
  return Listed(all);
}

// "at 02:00 and 14:00".
Words TimesOfDay(std::string_view minute, std::string_view hour) {
  const std::optional<int> at_minute = Number(minute);
  if (!at_minute.has_value()) return std::nullopt;
  std::vector<std::string> times;
  for (const std::string_view part : Split(hour, ',')) {
    const std::optional<int> at_hour = Number(part);
    if (!at_hour.has_value()) return std::nullopt;
    times.push_back(fmt::format("{:02}:{:02}", *at_hour, *at_minute));
  }
  return "at " + Listed(times);
}

// Of those that come more often than some times a day: "every 15 minutes".
Words WithinTheDay(std::string_view minute, std::string_view hour) {
  const std::optional<int> at = Number(minute);
  if (const auto hours = Step(hour, 24); hours.has_value() && at.has_value())
    return fmt::format("every {} hours from 00:{:02} on", *hours, *at);
  if (!IsAny(hour)) return std::nullopt;
  if (IsAny(minute)) return "every minute";
  if (const auto step = Step(minute, 60)) return fmt::format("every {} minutes", *step);
  if (at == 0) return "every hour, on the hour";
  return at.has_value() ? Words(fmt::format("every hour at minute {}", *at)) : std::nullopt;
}

// Which days; empty for every day.
Words Days(std::string_view day, std::string_view month, std::string_view weekday) {
  if (!IsAny(day) && !IsAny(weekday)) return std::nullopt;
  Words months = "";
  if (!IsAny(month)) months = Names(month, kMonths, kMonthWords, 1);
  if (!months.has_value()) return std::nullopt;
  const std::string in = months->empty() ? "" : " in " + *months;
  if (!IsAny(weekday)) {
    const Words days = Names(weekday, kWeekdays, kWeekdayWords, 0);
    return days.has_value() ? Words("on " + *days + in) : std::nullopt;
  }
  const std::string of = months->empty() ? "every month" : *months;
  if (day == "L") return "on the last day of " + of;
  if (IsAny(day)) return months->empty() ? "" : "every day" + in;
  const std::optional<int> number = Number(day);
  if (!number.has_value()) return std::nullopt;
  return months->empty() ? fmt::format("on day {} of {}", *number, of)
                         : fmt::format("every year on {} {}", *number, of);
}

std::string_view MacroMeaning(std::string_view cron) {
  if (cron == "@yearly" || cron == "@annually") return "0 0 1 1 *";
  if (cron == "@monthly") return "0 0 1 * *";
  if (cron == "@weekly") return "0 0 * * 0";
  if (cron == "@daily" || cron == "@midnight") return "0 0 * * *";
  if (cron == "@hourly") return "0 * * * *";
  return cron;
}

// Five fields; nothing where seconds matter.
std::vector<std::string_view> FiveFields(std::string_view cron) {
  std::vector<std::string_view> fields;
  for (const std::string_view field : Split(cron, ' '))
    if (!field.empty()) fields.push_back(field);
  if (fields.size() == 6 && fields[0] == "0") fields.erase(fields.begin());
  if (fields.size() != 5) fields.clear();
  return fields;
}

}  // namespace

std::string CronWords(std::string_view cron) {
  const auto fields = FiveFields(MacroMeaning(Trim(cron)));
  if (fields.empty()) return "";
  const Words days = Days(fields[2], fields[3], fields[4]);
  if (!days.has_value()) return "";
  if (const Words times = TimesOfDay(fields[0], fields[1]))
    return (days->empty() ? "every day" : *days) + " " + *times;
  const Words within = WithinTheDay(fields[0], fields[1]);
  if (!within.has_value()) return "";
  return days->empty() ? *within : *within + ", " + *days;
}

std::string ScheduleWords(const v1::JobSchedule& schedule) {
  switch (schedule.times_case()) {
    case v1::JobSchedule::kEvery: return "every " + DurationText(wire::FromProto(schedule.every()));
    case v1::JobSchedule::kAt: return "once, at " + schedule.at();
    case v1::JobSchedule::kCron: break;
    case v1::JobSchedule::TIMES_NOT_SET: return "when somebody asks for it";
  }
  const std::string words = CronWords(schedule.cron());
  if (words.empty())
    return fmt::format("as cron says: {}, {}", schedule.cron(), schedule.time_zone());
  return fmt::format("{}, {} ({})", words, schedule.time_zone(), schedule.cron());
}

}  // namespace muster::ctl
