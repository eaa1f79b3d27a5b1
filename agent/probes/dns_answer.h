// A DNS reply's answers as text (RFC 1035 section 4). Pure; takes any bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/status.h"

namespace muster::agent {

// The number of "A", "AAAA", "CNAME", "MX", "TXT", "NS"; 0 for others.
uint16_t DnsTypeNumber(std::string_view type);
// The records of that type, in the reply's order: "10.0.0.1", "ns1.example", "10 mail.example".
// DataLoss if the reply is damaged.
StatusOr<std::vector<std::string>> ParseDnsAnswers(std::string_view reply, uint16_t type);

}  // namespace muster::agent
