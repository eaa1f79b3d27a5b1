// Runs that somebody asks for, and what the audit chain says of it.
#pragma once

#include <string>

#include "control-plane/store/run_store.h"
#include "lib/net/identity.h"

namespace muster::control {

// In one line. InvalidArgument if it is longer than 512 bytes.
StatusOr<std::string> ReasonOf(const std::string& text);

AuditNote NoteOf(const net::Identity& caller, std::string action, std::string subject,
                 std::string detail, absl::Time at);

// What somebody asks to run.
struct Asked {
  std::string job;
  std::string action;      // as in v1::Run
  std::string request_id;  // empty: another run each time
  v1::JobSpec spec;
};

// Due now, and missed if it cannot begin within the hour. The same caller's same request is the
// same run.
StatusOr<RunRow> ManualRun(const net::Identity& caller, Asked asked, absl::Time now);

}  // namespace muster::control
