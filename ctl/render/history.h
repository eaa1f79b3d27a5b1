// The lines of a check's history. They stream, so their columns have fixed widths. Pure.
#pragma once

#include <string>

#include "ctl/render/json.h"
#include "muster/v1/state_service.pb.h"

namespace muster::ctl {

// A result: seq, observedAt, state, latency, summary and more; a hole in the log: seq and gap.
Json HistoryJson(const v1::HistoryEntry& entry);
std::string HistoryHeader();
std::string HistoryLine(const v1::HistoryEntry& entry, bool colour);

}  // namespace muster::ctl
