#include "lib/base/cron_parse.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/text.h"

namespace muster {
namespace {

constexpr size_t kLongest = 256;

constexpr std::string_view kMonths[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN",
                                        "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};
constexpr std::string_view kWeekdays[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"};

enum class FieldKind { kTime, kDay, kMonth, kWeekday };

// What a field is called, the values that may be written, and the last one that * stands for.
struct Field {
  FieldKind kind;
  std::string_view name;
  int low;
  int high;
  int last;
};
constexpr Field kSecond = {FieldKind::kTime, "second", 0, 59, 59};
constexpr Field kMinute = {FieldKind::kTime, "minute", 0, 59, 59};
constexpr Field kHour = {FieldKind::kTime, "hour", 0, 23, 23};
constexpr Field kDay = {FieldKind::kDay, "day of month", 1, 31, 31};
constexpr Field kMonth = {FieldKind::kMonth, "month", 1, 12, 12};
constexpr Field kWeekday = {FieldKind::kWeekday, "day of week", 0, 7, 6};

// A piece of the expression and where it begins, from 1.
struct Piece {
  std::string_view text;
  size_t column;
};

// Days that depend on the month, beside those in a mask.
struct MonthlyDays {
  std::array<bool, 31> before_last = {};    // L, L-1 …
  std::array<bool, 32> near = {};           // 1W …
  bool last_workday = false;                // LW
  std::array<bool, 7> last_weekday = {};    // 5L: the last Friday
  std::array<uint8_t, 7> nth_weekday = {};  // 5#2: bit 2 of Friday
};

struct FieldValues {
  uint64_t mask = 0;
  bool any = false;      // * or ?
  bool stepped = false;  // */2 and the like
};

struct Macro {
  std::string_view name;
  std::string_view stands_for;
};
constexpr Macro kMacros[] = {{"@yearly", "0 0 1 1 *"},  {"@annually", "0 0 1 1 *"},
                             {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
                             {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
                             {"@hourly", "0 * * * *"}};

std::string Upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

std::optional<int> Number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool digits = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if (!digits || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A weekday of the week that begins on Sunday: 7 is Sunday as well.
int Weekday(int value) { return value % 7; }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  StatusOr<CronTable> Read();

 private:
  template <typename... Args>
  Status Bad(const Field& field, const Piece& piece, fmt::format_string<Args...> format,
             Args&&... args) const {
    return InvalidArgument("cron \"{}\": {} \"{}\" at column {}: {}", OneLine(text_), field.name,
                           OneLine(piece.text), piece.column,
                           fmt::format(format, std::forward<Args>(args)...));
  }

  Status ReadFields(const std::vector<Piece>& fields);
  Status ReadField(const Field& field, const Piece& piece, FieldValues& out);
  Status ReadItem(const Field& field, const Piece& piece, FieldValues& out);
  Status ReadSteps(const Field& field, const Piece& piece, size_t slash, FieldValues& out);
  Status ReadRange(const Field& field, const Piece& piece, int step, FieldValues& out);
  StatusOr<int> ReadValue(const Field& field, const Piece& piece) const;
  StatusOr<bool> ReadMonthly(const Field& field, const Piece& piece);
  StatusOr<bool> ReadMonthlyDay(const Piece& piece);
  StatusOr<bool> ReadMonthlyWeekday(const Piece& piece);

  Status CheckDayFields(const std::vector<Piece>& fields) const;
  void FillDays();
  uint32_t DaysOf(int length, int first_weekday) const;
  Status CheckItComes() const;

  std::string_view text_;
  CronTable table_;
  FieldValues days_;
  FieldValues weekdays_;
  MonthlyDays monthly_;
};

std::vector<Piece> Fields(std::string_view text) {
  std::vector<Piece> out;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && !blank(text[end])) ++end;
    if (end > at) out.push_back({text.substr(at, end - at), at + 1});
    at = end + 1;
  }
  return out;
}

Piece Sub(const Piece& piece, size_t begin, size_t length = std::string_view::npos) {
  return {piece.text.substr(begin, length), piece.column + begin};
}

Status RefuseWord(std::string_view word) {
  if (word == "@reboot") {
    return InvalidArgument(
        "cron \"@reboot\": a schedule of the control plane has no boot to wait for; write a time, "
        "such as @daily, or let systemd on the host start it");
  }
  if (word.starts_with("@every")) {
    return InvalidArgument("cron \"{}\": write every: {} instead of cron", OneLine(word),
                           word.size() > 7 ? OneLine(word.substr(7)) : "5m");
  }
  return InvalidArgument(
      "cron \"{}\": no such macro; there are @yearly, @annually, @monthly, @weekly, @daily, "
      "@midnight and @hourly",
      OneLine(word));
}

StatusOr<CronTable> Parser::Read() {
  if (text_.size() > kLongest) {
    return InvalidArgument("cron \"{}…\": longer than {} bytes; write several schedules",
                           OneLine(text_.substr(0, 32)), kLongest);
  }
  std::vector<Piece> fields = Fields(text_);
  if (!fields.empty() && fields[0].text.find('=') != std::string_view::npos) {
    return InvalidArgument("cron \"{}\": write the zone as timeZone: beside cron", OneLine(text_));
  }
  if (fields.size() != 5 && fields.size() != 6) {
    return InvalidArgument(
        "cron \"{}\": {} fields where five are wanted (minute, hour, day of month, month, day of "
        "week), or six with the second first{}",
        OneLine(text_), fields.size(), fields.size() == 7 ? "; a year cannot be said" : "");
  }
  MUSTER_RETURN_IF_ERROR(ReadFields(fields));
  MUSTER_RETURN_IF_ERROR(CheckDayFields(fields));
  FillDays();
  MUSTER_RETURN_IF_ERROR(CheckItComes());
  return table_;
}

Status Parser::ReadFields(const std::vector<Piece>& fields) {
  size_t at = 0;
  FieldValues seconds{.mask = 1}, minutes, hours, months;
  if (fields.size() == 6) MUSTER_RETURN_IF_ERROR(ReadField(kSecond, fields[at++], seconds = {}));
  MUSTER_RETURN_IF_ERROR(ReadField(kMinute, fields[at++], minutes));
  MUSTER_RETURN_IF_ERROR(ReadField(kHour, fields[at++], hours));
  MUSTER_RETURN_IF_ERROR(ReadField(kDay, fields[at++], days_));
  MUSTER_RETURN_IF_ERROR(ReadField(kMonth, fields[at++], months));
  MUSTER_RETURN_IF_ERROR(ReadField(kWeekday, fields[at++], weekdays_));
  table_.seconds = seconds.mask;
  table_.minutes = minutes.mask;
  table_.hours = static_cast<uint32_t>(hours.mask);
  table_.months = static_cast<uint32_t>(months.mask);
  return OkStatus();
}

Status Parser::ReadField(const Field& field, const Piece& piece, FieldValues& out) {
  size_t begin = 0;
  while (true) {
    const size_t comma = piece.text.find(',', begin);
    const size_t length = comma == std::string_view::npos ? comma : comma - begin;
    MUSTER_RETURN_IF_ERROR(ReadItem(field, Sub(piece, begin, length), out));
    if (comma == std::string_view::npos) return OkStatus();
    begin = comma + 1;
  }
}

Status Parser::ReadItem(const Field& field, const Piece& piece, FieldValues& out) {
  if (piece.text.empty()) return Bad(field, piece, "nothing stands beside a comma; take it away");
  if (piece.text == "H" || piece.text.starts_with("H/") || piece.text.starts_with("H(")) {
    return Bad(field, piece, "H is not known; write a number, and jitter: beside cron");
  }
  const size_t slash = piece.text.find('/');
  if (slash != std::string_view::npos) return ReadSteps(field, piece, slash, out);
  MUSTER_ASSIGN_OR_RETURN(const bool monthly, ReadMonthly(field, piece));
  if (monthly) return OkStatus();
  return ReadRange(field, piece, 1, out);
}

Status Parser::ReadSteps(const Field& field, const Piece& piece, size_t slash, FieldValues& out) {
  const Piece base = Sub(piece, 0, slash);
  const std::optional<int> step = Number(piece.text.substr(slash + 1));
  if (!step || *step < 1) return Bad(field, piece, "the step is no number from 1 on");
  const bool is_span = base.text == "*" || base.text.find('-') != std::string_view::npos;
  if (!is_span) {
    return Bad(field, piece, "a step needs a range: write {}-{}/{}",
               base.text.empty() ? std::to_string(field.low) : OneLine(base.text), field.last,
               *step);
  }
  if (*step > field.last - field.low) {
    return Bad(field, piece,
               "a step of {} is longer than the field; for a distance write every:", *step);
  }
  return ReadRange(field, base, *step, out);
}

Status Parser::ReadRange(const Field& field, const Piece& piece, int step, FieldValues& out) {
  int low = field.low, high = field.last;
  const bool question = piece.text == "?" && step == 1;
  if (piece.text == "*" || question) {
    if (question && field.kind != FieldKind::kDay && field.kind != FieldKind::kWeekday) {
      return Bad(field, piece, "? stands for a day alone; write *");
    }
    (step == 1 ? out.any : out.stepped) = true;
  } else {
    const size_t dash = piece.text.find('-');
    MUSTER_ASSIGN_OR_RETURN(low, ReadValue(field, Sub(piece, 0, dash)));
    high = low;
    if (dash != std::string_view::npos) {
      MUSTER_ASSIGN_OR_RETURN(high, ReadValue(field, Sub(piece, dash + 1)));
      if (field.kind == FieldKind::kWeekday && high == 0 && low > 0) high = 7;  // FRI-SUN
    }
    if (high < low) {
      return Bad(field, piece, "the range runs backwards; write {}-{},{}-{}", low, field.last,
                 field.low, high);
    }
  }
  for (int value = low; value <= high; value += step) {
    out.mask |= uint64_t{1} << (field.kind == FieldKind::kWeekday ? Weekday(value) : value);
  }
  return OkStatus();
}

StatusOr<int> Parser::ReadValue(const Field& field, const Piece& piece) const {
  const std::string name = Upper(piece.text);
  if (field.kind == FieldKind::kMonth) {
    const auto found = std::find(std::begin(kMonths), std::end(kMonths), name);
    if (found != std::end(kMonths)) return static_cast<int>(found - std::begin(kMonths)) + 1;
  }
  if (field.kind == FieldKind::kWeekday) {
    const auto found = std::find(std::begin(kWeekdays), std::end(kWeekdays), name);
    if (found != std::end(kWeekdays)) return static_cast<int>(found - std::begin(kWeekdays));
  }
  const std::optional<int> value = Number(piece.text);
  if (value && *value >= field.low && *value <= field.high) return *value;
  const std::string_view names = field.kind == FieldKind::kMonth ? ", or JAN to DEC"
                                 : field.kind == FieldKind::kWeekday
                                     ? " (0 and 7 are Sunday), or SUN to SAT"
                                     : "";
  return Bad(field, piece, "write {} to {}{}", field.low, field.high, names);
}

StatusOr<bool> Parser::ReadMonthly(const Field& field, const Piece& piece) {
  if (field.kind == FieldKind::kDay) return ReadMonthlyDay(piece);
  if (field.kind == FieldKind::kWeekday) return ReadMonthlyWeekday(piece);
  return false;
}

StatusOr<bool> Parser::ReadMonthlyDay(const Piece& piece) {
  const std::string text = Upper(piece.text);
  if (text == "L") return monthly_.before_last[0] = true;
  if (text == "LW" || text == "WL") return monthly_.last_workday = true;
  if (text.starts_with("L-")) {
    const std::optional<int> days = Number(std::string_view(text).substr(2));
    if (days && *days >= 1 && *days <= 30) {
      return monthly_.before_last[static_cast<size_t>(*days)] = true;
    }
    return Bad(kDay, piece, "write L-1 to L-30, so many days before the last");
  }
  if (!text.ends_with('W')) return false;
  const std::optional<int> day = Number(std::string_view(text).substr(0, text.size() - 1));
  if (day && *day >= 1 && *day <= 31) return monthly_.near[static_cast<size_t>(*day)] = true;
  return Bad(kDay, piece, "write 1W to 31W, the working day that is nearest to one day, or LW");
}

StatusOr<bool> Parser::ReadMonthlyWeekday(const Piece& piece) {
  const std::string text = Upper(piece.text);
  if (text == "L") {
    return Bad(kWeekday, piece, "which last day? Write SATL for the last Saturday, or 6 for each");
  }
  const size_t hash = text.find('#');
  if (hash == std::string::npos && !text.ends_with('L')) return false;
  const size_t cut = hash == std::string::npos ? text.size() - 1 : hash;
  MUSTER_ASSIGN_OR_RETURN(const int value, ReadValue(kWeekday, Sub(piece, 0, cut)));
  const auto weekday = static_cast<size_t>(Weekday(value));
  if (hash == std::string::npos) return monthly_.last_weekday[weekday] = true;
  const std::optional<int> nth = Number(std::string_view(text).substr(hash + 1));
  if (!nth || *nth < 1 || *nth > 5) return Bad(kWeekday, piece, "write #1 to #5, as in MON#1");
  monthly_.nth_weekday[weekday] |= static_cast<uint8_t>(1U << *nth);
  return true;
}

// Where both fields of days say something, days that match either are meant. Some crons take */2
// for saying nothing and others do not, so that it is refused there.
Status Parser::CheckDayFields(const std::vector<Piece>& fields) const {
  const Piece& day = fields[fields.size() - 3];
  const Piece& weekday = fields.back();
  if (days_.any || weekdays_.any || !(days_.stepped || weekdays_.stepped)) return OkStatus();
  return days_.stepped ? Bad(kDay, day,
                             "beside a day of week, crons differ in what */ means; write 1-31/N "
                             "for days that match either, or MON#1 for the first Monday")
                       : Bad(kWeekday, weekday,
                             "beside a day of month, crons differ in what */ means; write "
                             "0-6/N for days that match either");
}

void Parser::FillDays() {
  for (int length = 28; length <= 31; ++length) {
    for (int weekday = 0; weekday < 7; ++weekday) {
      table_.days[MonthKind(length, weekday)] = DaysOf(length, weekday);
    }
  }
}

// The working day nearest to `day` in the same month.
int NearestWorkday(int day, int length, int weekday) {
  if (weekday == 6) return day > 1 ? day - 1 : day + 2;
  if (weekday == 0) return day < length ? day + 1 : day - 2;
  return day;
}

uint32_t Parser::DaysOf(int length, int first_weekday) const {
  uint32_t by_date = static_cast<uint32_t>(days_.mask);
  uint32_t by_weekday = 0;
  const auto weekday_of = [&](int day) { return (first_weekday + day - 1) % 7; };
  for (int day = 1; day <= length; ++day) {
    const auto weekday = static_cast<size_t>(weekday_of(day));
    if (monthly_.before_last[static_cast<size_t>(length - day)]) by_date |= 1U << day;
    if (monthly_.near[static_cast<size_t>(day)]) {
      by_date |= 1U << NearestWorkday(day, length, weekday_of(day));
    }
    const bool is_last = day + 7 > length && monthly_.last_weekday[weekday];
    const bool is_nth = (monthly_.nth_weekday[weekday] >> ((day - 1) / 7 + 1) & 1) != 0;
    if ((weekdays_.mask >> weekday & 1) != 0 || is_last || is_nth) by_weekday |= 1U << day;
  }
  if (monthly_.last_workday) by_date |= 1U << NearestWorkday(length, length, weekday_of(length));
  const uint32_t there = (length == 31 ? ~0U : (1U << (length + 1)) - 1) & ~1U;
  const bool either = !days_.any && !weekdays_.any;
  if (days_.any) by_date = there;
  if (weekdays_.any) by_weekday = there;
  return (either ? by_date | by_weekday : by_date & by_weekday) & there;
}

// Every month meets each of its lengths with each first weekday within 400 years.
Status Parser::CheckItComes() const {
  constexpr int kLengths[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  for (int month = 1; month <= 12; ++month) {
    if ((table_.months >> month & 1) == 0) continue;
    for (int weekday = 0; weekday < 7; ++weekday) {
      if (table_.days[MonthKind(kLengths[month], weekday)] != 0) return OkStatus();
      if (month == 2 && table_.days[MonthKind(28, weekday)] != 0) return OkStatus();
    }
  }
  return InvalidArgument(
      "cron \"{}\": no month that it names has such a day, so it never comes; write L for the last "
      "day of a month",
      OneLine(text_));
}

}  // namespace

StatusOr<CronTable> ParseCron(std::string_view text) {
  const std::string_view word = Trim(text);
  if (!word.starts_with('@')) return Parser(text).Read();
  for (const Macro& macro : kMacros) {
    if (macro.name == word) return Parser(macro.stands_for).Read();
  }
  return RefuseWord(word);
}

}  // namespace muster
