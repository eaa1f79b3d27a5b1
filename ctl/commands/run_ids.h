// By what an operator calls a run: its id, the first digits of it, or JOB/latest.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ctl/commands/session.h"
#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

// The whole id. InvalidArgument for what is none of these, and for digits that several runs begin
// with, naming them; NotFound where there is no such run. A whole id is not looked up.
StatusOr<std::string> ResolveRun(Session& session, const std::string& text);

// The parts of it that ask nobody.
bool IsRunId(std::string_view text);
// At least eight hex digits, with the dashes where they are in an id.
bool IsRunPrefix(std::string_view text);
// Of the runs that begin with the prefix.
StatusOr<std::string> PickRun(const std::string& prefix, const std::vector<v1::Run>& matching);

}  // namespace muster::ctl
