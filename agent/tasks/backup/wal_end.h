// What a piece of PostgreSQL's log says of transactions that ended, read from pg_waldump's lines.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <absl/time/time.h>

namespace muster::agent::backup {

// Of the lines of one segment, taken as they come; in the time zone UTC.
class WalEnd {
 public:
  void Take(std::string_view bytes);

  // Where the last whole record begins, as "0/300A1B8"; empty: there is none.
  const std::string& last_record() const { return last_record_; }
  // When the last one of the transactions ended that the segment tells the end of.
  std::optional<absl::Time> last_end() const { return last_end_; }

 private:
  void TakeLine(std::string_view line);

  std::string rest_;  // a line that has not ended
  std::string last_record_;
  std::optional<absl::Time> last_end_;
};

// The text of postgresql.auto.conf (or recovery.conf) with a log position as what it recovers to in
// place of a moment; nullopt if it names no moment.
std::optional<std::string> RecoverToRecord(std::string_view settings, std::string_view record);

}  // namespace muster::agent::backup
