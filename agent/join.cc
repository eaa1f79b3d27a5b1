#include <iostream>
#include <iterator>

#include "agent/app.h"
#include "agent/config.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/net/context.h"
#include "lib/net/join.h"

namespace muster::agent {
namespace {

constexpr size_t kLargestToken = 4096;

StatusOr<std::string> ReadToken(const std::string& file) {
  if (file != "-") return ReadFile(file);
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (text.size() > kLargestToken) return InvalidArgument("what came on stdin is no join string");
  return text;
}

}  // namespace

StatusOr<std::string> Join(const JoinOptions& options) {
  if (HasIdentity(options.data) && !options.force) {
    return FailedPrecondition(
        "{} holds an identity already; use another folder, or --force to replace it", options.data);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadToken(options.token_file));
  MUSTER_ASSIGN_OR_RETURN(const net::JoinString join, net::ParseJoinString(text));
  MUSTER_RETURN_IF_ERROR(ParseHostPort(options.server).status());
  // The folder first: a token must not be spent on a certificate that cannot be kept.
  MUSTER_RETURN_IF_ERROR(MakeFolder(options.data));
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(options.data + "/joining", "\n"));
  MUSTER_ASSIGN_OR_RETURN(const net::Joined joined, net::Join(options.server, join, SystemClock()));
  MUSTER_RETURN_IF_ERROR(
      WriteMembership(options.data, {joined.agent_name, joined.servers, joined.identity}));
  std::string servers;
  for (const std::string& server : joined.servers)
    servers += (servers.empty() ? "" : ", ") + server;
  return fmt::format(
      "joined as {}; the control plane is at {}\n\n"
      "next:\n"
      "  muster-agent run --data {}\n",
      joined.agent_name, servers, options.data);
}

}  // namespace muster::agent
