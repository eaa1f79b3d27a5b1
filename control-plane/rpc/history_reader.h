// Segments to history entries, as operators read them. Pure but for the segments it is handed.
#pragma once

#include <functional>
#include <map>
#include <string>

#include <absl/time/time.h>

#include "control-plane/store/history_store.h"
#include "lib/wire/columns.h"
#include "muster/v1/state_service.pb.h"

namespace muster::control {

struct HistoryQuery {
  uint32_t check_id = 0;
  absl::Time since;
  absl::Time until;
  uint64_t limit = 0;  // 0: all
};

// Fed with an agent's segments, oldest first; gives the entries of one check, and the log's gaps,
// in order.
class HistoryReader {
 public:
  using Take = std::function<bool(const v1::HistoryEntry&)>;
  // `take` returns false to stop.
  HistoryReader(HistoryQuery query, Take take) : query_(query), take_(std::move(take)) {}

  // False when no more is wanted. A segment that cannot be read is DataLoss and names its range.
  StatusOr<bool> Feed(const Segment& segment);

 private:
  // False when no more is wanted.
  bool FeedOther(const Segment& segment, const v1::Record& record);
  bool FeedResult(const Segment& segment, const wire::ResultRow& result);
  bool Give(const v1::HistoryEntry& entry);

  const HistoryQuery query_;
  const Take take_;
  uint64_t given_ = 0;
  // Results without a detail say what the one before said.
  std::string summary_;
  v1::CheckStatus summary_status_ = v1::CHECK_STATUS_UNSPECIFIED;
};

}  // namespace muster::control
