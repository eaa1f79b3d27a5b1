#include <cstdio>
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

std::string JoiningPath(const std::string& folder) { return folder + "/joining.key"; }

// Kept until the join has ended: if the answer is lost on its way, the same key may ask again with
// the same token.
StatusOr<Secret> JoiningKey(const std::string& folder) {
  if (FileExists(JoiningPath(folder))) {
    MUSTER_ASSIGN_OR_RETURN(std::string pem, ReadFile(JoiningPath(folder)));
    return Secret(std::move(pem));
  }
  MUSTER_ASSIGN_OR_RETURN(Secret key, net::NewPrivateKey());
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(JoiningPath(folder), key.Reveal()));
  return key;
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
  MUSTER_ASSIGN_OR_RETURN(const Secret key, JoiningKey(options.data));
  MUSTER_ASSIGN_OR_RETURN(const net::Joined joined,
                          net::Join(options.server, join, key, SystemClock()));
  MUSTER_RETURN_IF_ERROR(WriteMembership(
      options.data, {joined.agent_name, joined.servers, {options.server}, joined.identity}));
  std::remove(JoiningPath(options.data).c_str());
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
