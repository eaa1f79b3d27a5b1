#include "ctl/commands/commands.h"
#include "ctl/commands/flags.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::ctl {
namespace {

struct Flags {
  std::string name, confirm, reason;
  bool yes = false;
};

StatusOr<int> Revoke(Session& session, const Flags& flags) {
  if (!flags.confirm.empty() && flags.confirm != flags.name)
    return session.Usage(fmt::format("--confirm={} is not {}", flags.confirm, flags.name));
  MUSTER_ASSIGN_OR_RETURN(const bool go, session.Confirmed(fmt::format("revoke agent {}", flags.name),
                                                           flags.yes || !flags.confirm.empty()));
  if (!go) return kExitFailed;
  v1::RevokeAgentRequest request;
  request.set_agent(flags.name);
  request.set_reason(flags.reason);
  v1::RevokeAgentResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::IdentityService>(&v1::IdentityService::Stub::RevokeAgent, request, response));
  if (!session.PrintObject(ToJson(response)))
    Print(fmt::format("agent/{} revoked ({} certificates)\n", flags.name, response.certificates()));
  return 0;
}

}  // namespace

void AddAgent(CLI::App& app, Session& session) {
  CLI::App* agent = Group(app, "agent", "Agents and their certificates");
  CLI::App* revoke = agent->add_subcommand("revoke", "Shut an agent out; its live connection is cut");
  auto flags = std::make_shared<Flags>();
  revoke->add_option("NAME", flags->name, "The agent")->required();
  revoke->add_flag("--yes", flags->yes, "Do it without asking");
  revoke->add_option("--confirm", flags->confirm, "The name once more, instead of --yes");
  revoke->add_option("--reason", flags->reason, "For the audit trail");
  revoke->callback([&session, flags] { session.command = [&session, flags] { return Revoke(session, *flags); }; });
}

}  // namespace muster::ctl
