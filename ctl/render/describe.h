// One thing in full, for people. Pure; any thread may call.
#pragma once

#include <string>

#include "ctl/render/table.h"

namespace muster::ctl {

// "Last Seen At:  2026-…", one field a line; objects and lists indented below their name.
std::string FieldsText(const Json& object);
// An ExplainAlertResponse: the alert, what was decided, what was delivered.
std::string AlertText(const Json& explained, const TableStyle& style);

}  // namespace muster::ctl
