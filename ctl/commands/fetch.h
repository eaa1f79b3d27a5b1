// Lists of the control plane, all pages, as JSON items.
#pragma once

#include <string>

#include "ctl/commands/session.h"

namespace muster::ctl {

// `name` empty means all.
StatusOr<Json> FetchAgents(Session& session, const std::string& name);
// `spec_kind`: "Check", "Receiver", or empty for all. `documents`, if given, takes the specs as YAML.
StatusOr<Json> FetchSpecs(Session& session, const std::string& spec_kind, const std::string& name,
                          std::string* documents = nullptr);
StatusOr<Json> FetchStates(Session& session, const std::string& check, const std::string& agent);
StatusOr<Json> FetchAlerts(Session& session);
StatusOr<Json> FetchOperators(Session& session);
StatusOr<Json> FetchTransitions(Session& session, const std::string& check);
StatusOr<Json> FetchAudit(Session& session);

}  // namespace muster::ctl
