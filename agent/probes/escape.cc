#include "agent/probes/escape.h"

#include <re2/re2.h>

namespace muster::agent {

StatusOr<std::string> Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    const char escape = i + 1 < text.size() ? text[++i] : '\0';
    switch (escape) {
      case 'r': out.push_back('\r'); break;
      case 'n': out.push_back('\n'); break;
      case 't': out.push_back('\t'); break;
      case '0': out.push_back('\0'); break;
      case '\\': out.push_back('\\'); break;
      case 'x': {
        const StatusOr<std::string> byte = HexDecode(text.substr(i + 1, 2));
        if (!byte.ok() || byte->size() != 1) {
          return InvalidArgument("\\x in '{}' wants two hex digits", OneLine(text));
        }
        out += *byte;
        i += 2;
        break;
      }
      default:
        return InvalidArgument("'{}' has an unknown escape; write \\\\ for a backslash",
                               OneLine(text));
    }
  }
  return out;
}

Status CheckPattern(std::string_view pattern) {
  const RE2 compiled(re2::StringPiece(pattern.data(), pattern.size()), RE2::Quiet);
  if (compiled.ok()) return OkStatus();
  return InvalidArgument("'{}' is not a pattern that RE2 takes: {}", pattern, compiled.error());
}

StatusOr<HostPort> ParseTarget(std::string_view address) {
  MUSTER_ASSIGN_OR_RETURN(HostPort target, ParseHostPort(address));
  if (target.host.empty() || target.port == 0) {
    return InvalidArgument("'{}' is not HOST:PORT", address);
  }
  return target;
}

}  // namespace muster::agent
