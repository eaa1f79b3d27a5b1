#include "ctl/commands/commands.h"
#include "ctl/commands/flags.h"
#include "lib/base/file.h"
#include "lib/net/tls.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::ctl {
namespace {

struct Flags {
  std::string name, role, out, confirm, reason;
  bool yes = false;
};

StatusOr<v1::Role> ReadRole(Session& session, const std::string& text) {
  if (text == "viewer") return v1::ROLE_VIEWER;
  if (text == "operator") return v1::ROLE_OPERATOR;
  if (text == "admin") return v1::ROLE_ADMIN;
  return session.Usage(fmt::format("--role {}: one of viewer, operator, admin", text));
}

Status WriteContext(const Session& session, const Flags& flags, const Secret& key,
                    const v1::CreateOperatorResponse& response) {
  net::Context context;
  context.name = flags.name;
  context.servers = session.context().servers;
  context.identity.roots_pem = session.context().identity.roots_pem;
  context.identity.chain_pem = net::DerToPem({response.chain().begin(), response.chain().end()});
  context.identity.key_pem = key.Reveal();
  return WriteFileAtomically(flags.out, net::FormatContext(context), 0600);
}

// The key is made here and never leaves but for the context file.
StatusOr<int> Create(Session& session, const Flags& flags) {
  if (FileExists(flags.out)) return session.Usage(fmt::format("--out {}: is there already", flags.out));
  MUSTER_ASSIGN_OR_RETURN(const v1::Role role, ReadRole(session, flags.role));
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  v1::CreateOperatorRequest request;
  request.set_name(flags.name);
  request.set_role(role);
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_csr(), net::NewCertificateRequest(key));
  v1::CreateOperatorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::IdentityService>(&v1::IdentityService::Stub::CreateOperator, request, response));
  MUSTER_RETURN_IF_ERROR(WriteContext(session, flags, key, response));
  Print(fmt::format("operator/{} created\n", flags.name));
  Complain(fmt::format("next: musterctl --context {} get agents\n", flags.out));
  return 0;
}

StatusOr<int> Revoke(Session& session, const Flags& flags) {
  if (!flags.confirm.empty() && flags.confirm != flags.name)
    return session.Usage(fmt::format("--confirm={} is not {}", flags.confirm, flags.name));
  MUSTER_ASSIGN_OR_RETURN(const bool go, session.Confirmed(fmt::format("revoke operator {}", flags.name),
                                                           flags.yes || !flags.confirm.empty()));
  if (!go) return kExitFailed;
  v1::RevokeOperatorRequest request;
  request.set_name(flags.name);
  request.set_reason(flags.reason);
  v1::RevokeOperatorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::IdentityService>(&v1::IdentityService::Stub::RevokeOperator, request, response));
  if (!session.PrintObject(ToJson(response)))
    Print(fmt::format("operator/{} revoked ({} certificates)\n", flags.name, response.certificates()));
  return 0;
}

void AddCreate(CLI::App& group, Session& session) {
  auto flags = std::make_shared<Flags>();
  CLI::App* create = group.add_subcommand("create", "A key, a certificate and a context file for someone");
  create->add_option("NAME", flags->name, "The operator's name")->required();
  create->add_option("--role", flags->role, "viewer, operator or admin")->required();
  create->add_option("--out", flags->out, "The context file to write")->required();
  create->callback([&session, flags] { session.command = [&session, flags] { return Create(session, *flags); }; });
}

}  // namespace

void AddOperator(CLI::App& app, Session& session) {
  CLI::App* group = Group(app, "operator", "People and programs that use musterctl");
  AddCreate(*group, session);
  auto flags = std::make_shared<Flags>();
  CLI::App* revoke = group->add_subcommand("revoke", "Deny every certificate of an operator");
  revoke->add_option("NAME", flags->name, "The operator")->required();
  revoke->add_flag("--yes", flags->yes, "Do it without asking");
  revoke->add_option("--confirm", flags->confirm, "The name once more, instead of --yes");
  revoke->add_option("--reason", flags->reason, "For the audit trail");
  revoke->callback([&session, flags] { session.command = [&session, flags] { return Revoke(session, *flags); }; });
}

}  // namespace muster::ctl
