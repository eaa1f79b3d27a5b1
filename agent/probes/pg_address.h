// Where a PostgreSQL server is and how to sign in: a libpq connection string as libpq reads it,
// checked against the host's policy. No message holds the password, nor the string.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/policy/policy.h"
#include "agent/probes/report.h"
#include "lib/base/status.h"

namespace muster::agent {

// libpq's keywords and their values, empty ones left out; whoever holds them wipes the password.
using PgSettings = std::map<std::string, std::string, std::less<>>;

StatusOr<PgSettings> ParsePgSettings(std::string_view dsn);
// InvalidArgument for a service; PermissionDenied for a file that the policy does not allow.
Status AllowPgFiles(const PgSettings& settings, const Policy& policy);
// Fills in host and port, and sets hostaddr to one address that the policy allows; the name stays
// for TLS. A folder of sockets must be an allowed path.
Status PinPgHost(PgSettings& settings, const Policy& policy, const ProbeContext& context,
                 Report& report);

}  // namespace muster::agent
