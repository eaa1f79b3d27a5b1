#include "ctl/commands/commands.h"
#include "ctl/commands/flags.h"
#include "lib/base/text.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::ctl {
namespace {

struct Flags {
  std::string agent, ttl;
  std::vector<std::string> labels;
};

Status PutLabels(Session& session, const Flags& flags, v1::CreateTokenRequest& request) {
  for (const std::string& label : flags.labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0)
      return session.Usage(fmt::format("--label {}: write it as KEY=VALUE", label));
    (*request.mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return OkStatus();
}

StatusOr<int> Create(Session& session, const Flags& flags) {
  v1::CreateTokenRequest request;
  request.set_agent(flags.agent);
  MUSTER_RETURN_IF_ERROR(PutLabels(session, flags, request));
  if (!flags.ttl.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const absl::Duration ttl, DurationFlag(session, "--ttl", flags.ttl));
    PutDuration(ttl, *request.mutable_ttl());
  }
  v1::CreateTokenResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::IdentityService>(&v1::IdentityService::Stub::CreateToken, request, response));
  if (!session.PrintObject(ToJson(response))) Print(response.join_string() + "\n");
  return 0;
}

}  // namespace

void AddToken(CLI::App& app, Session& session) {
  CLI::App* token = Group(app, "token", "Join strings for agents");
  CLI::App* create = token->add_subcommand("create", "Make a join string, good once, and print it");
  auto flags = std::make_shared<Flags>();
  create->add_option("--agent", flags->agent, "The agent's name")->required();
  create->add_option("--label", flags->labels, "A label of the agent, KEY=VALUE; repeatable")
      ->allow_extra_args(false);
  create->add_option("--ttl", flags->ttl, "How long the string is good, like 10m (the default)");
  create->callback([&session, flags] { session.command = [&session, flags] { return Create(session, *flags); }; });
}

}  // namespace muster::ctl
