#include <iostream>

#include "ctl/commands/commands.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/net/identity.h"
#include "lib/net/tls.h"
#include "lib/wire/time.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::ctl {
namespace {

Status CreateToken(Session& session, const std::string& agent,
                   const std::vector<std::string>& labels, const std::string& ttl) {
  v1::CreateTokenRequest request;
  request.set_agent(agent);
  for (const std::string& label : labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0)
      return InvalidArgument("label \"{}\" is not KEY=VALUE", label);
    (*request.mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  MUSTER_ASSIGN_OR_RETURN(const absl::Duration lifetime, ParseDuration(ttl));
  *request.mutable_ttl() = wire::ToProto(lifetime);
  v1::CreateTokenResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::IdentityService::NewStub(channel)->CreateToken(&context, request, &response);
  }));
  std::cout << response.join_string() << "\n";
  std::cerr << fmt::format(
      "good for one certificate until {}; on {}: muster-agent join --data DIR --server HOST:7444 "
      "--token-file FILE\n",
      TimeText(wire::FromProto(response.expires_at())), agent);
  return OkStatus();
}

Status RevokeAgent(Session& session, const std::string& name, const std::string& reason,
                   const std::string& confirm, bool yes) {
  MUSTER_RETURN_IF_ERROR(session.Confirm(fmt::format("Deny every certificate of agent {}?", name),
                                         yes || confirm == name));
  v1::RevokeAgentRequest request;
  request.set_agent(name);
  request.set_reason(reason);
  v1::RevokeAgentResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::IdentityService::NewStub(channel)->RevokeAgent(&context, request, &response);
  }));
  std::cerr << fmt::format("agent/{} revoked, {} certificate{} denied\n", name,
                           response.certificates(), response.certificates() == 1 ? "" : "s");
  return OkStatus();
}

StatusOr<v1::Role> RoleOf(const std::string& text) {
  for (const v1::Role role : {v1::ROLE_VIEWER, v1::ROLE_OPERATOR, v1::ROLE_ADMIN}) {
    if (net::RoleName(role) == text) return role;
  }
  return InvalidArgument("\"{}\" is no role; there are viewer, operator, admin", text);
}

Status CreateOperator(Session& session, const std::string& name, const std::string& role,
                      const std::string& out) {
  if (FileExists(out)) return FailedPrecondition("{} exists; nothing was made", out);
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  v1::CreateOperatorRequest request;
  request.set_name(name);
  MUSTER_ASSIGN_OR_RETURN(const v1::Role asked, RoleOf(role));
  request.set_role(asked);
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_csr(), net::NewCertificateRequest(key));
  v1::CreateOperatorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::IdentityService::NewStub(channel)->CreateOperator(&context, request, &response);
  }));
  net::Context made = session.context();
  made.name = name;
  made.identity.chain_pem = net::DerToPem({response.chain().begin(), response.chain().end()});
  made.identity.key_pem = std::string(key.Reveal());
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(out, net::FormatContext(made)));
  std::cerr << fmt::format("operator/{} made; the context is {}\n", name, out);
  return OkStatus();
}

Status RevokeOperator(Session& session, const std::string& name, bool yes) {
  MUSTER_RETURN_IF_ERROR(
      session.Confirm(fmt::format("Deny every certificate of operator {}?", name), yes));
  v1::RevokeOperatorRequest request;
  request.set_name(name);
  v1::RevokeOperatorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::IdentityService::NewStub(channel)->RevokeOperator(&context, request, &response);
  }));
  std::cerr << fmt::format("operator/{} revoked\n", name);
  return OkStatus();
}

struct Texts {
  std::string name, reason, confirm, role = "viewer", out, ttl = "10m";
  std::vector<std::string> labels;
  bool yes = false;
};

}  // namespace

void AddToken(Cli& cli) {
  CLI::App* token = cli.app.add_subcommand("token", "join tokens");
  token->require_subcommand(1);
  CLI::App* create =
      token->add_subcommand("create", "a join string for one agent; stdout holds nothing else");
  const auto texts = std::make_shared<Texts>();
  create->add_option("--agent", texts->name, "name of the agent")->required();
  create->add_option("--label", texts->labels, "KEY=VALUE; repeatable")->allow_extra_args(false);
  create->add_option("--ttl", texts->ttl, "how long it is good")->capture_default_str();
  create->callback([&cli, texts] {
    cli.Run([&](Session& session) {
      return CreateToken(session, texts->name, texts->labels, texts->ttl);
    });
  });
}

void AddAgent(Cli& cli) {
  CLI::App* agent = cli.app.add_subcommand("agent", "agents");
  agent->require_subcommand(1);
  CLI::App* revoke =
      agent->add_subcommand("revoke", "deny an agent's certificates and cut its connection");
  const auto texts = std::make_shared<Texts>();
  revoke->add_option("name", texts->name, "name of the agent")->required();
  revoke->add_option("--reason", texts->reason, "for the audit trail");
  revoke->add_option("--confirm", texts->confirm, "the name again, instead of being asked");
  revoke->add_flag("--yes", texts->yes, "do not ask");
  revoke->callback([&cli, texts] {
    cli.Run([&](Session& session) {
      return RevokeAgent(session, texts->name, texts->reason, texts->confirm, texts->yes);
    });
  });
}

void AddOperator(Cli& cli) {
  CLI::App* group = cli.app.add_subcommand("operator", "people and programs that may use the API");
  group->require_subcommand(1);
  const auto texts = std::make_shared<Texts>();
  CLI::App* create = group->add_subcommand("create", "a context file with a certificate of a role");
  create->add_option("name", texts->name, "name of the operator")->required();
  create->add_option("--role", texts->role, "viewer, operator or admin")->capture_default_str();
  create->add_option("--out", texts->out, "the context file to write")->required();
  create->callback([&cli, texts] {
    cli.Run([&](Session& session) {
      return CreateOperator(session, texts->name, texts->role, texts->out);
    });
  });
  CLI::App* revoke = group->add_subcommand("revoke", "deny an operator's certificates");
  revoke->add_option("name", texts->name, "name of the operator")->required();
  revoke->add_flag("--yes", texts->yes, "do not ask");
  revoke->callback([&cli, texts] {
    cli.Run([&](Session& session) { return RevokeOperator(session, texts->name, texts->yes); });
  });
}

}  // namespace muster::ctl
