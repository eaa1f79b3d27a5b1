#include "ctl/commands/commands.h"
#include "muster/v1/spec_service.grpc.pb.h"

namespace muster::ctl {
namespace {

struct Flags {
  std::string kind, name;
  bool yes = false;
};

StatusOr<std::string> SpecKind(Session& session, const std::string& word) {
  const Kind* kind = FindKind(word);
  const std::string_view singular = kind == nullptr ? "" : kind->singular;
  if (singular == "check") return "Check";
  if (singular == "receiver") return "Receiver";
  if (singular == "agent" || singular == "operator")
    return session.Usage(fmt::format("an {} is not deleted: `musterctl {} revoke NAME`", singular, singular));
  return session.Usage(fmt::format("no kind {} to delete: check or receiver", word));
}

StatusOr<int> Delete(Session& session, const Flags& flags) {
  MUSTER_ASSIGN_OR_RETURN(const std::string kind, SpecKind(session, flags.kind));
  MUSTER_ASSIGN_OR_RETURN(const bool go,
                          session.Confirmed(fmt::format("delete {} {}", FindKind(kind)->singular, flags.name), flags.yes));
  if (!go) return kExitFailed;
  v1::DeleteSpecsRequest request;
  v1::SpecName& name = *request.add_names();
  name.set_kind(kind);
  name.set_name(flags.name);
  v1::DeleteSpecsResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::SpecService>(&v1::SpecService::Stub::DeleteSpecs, request, response));
  if (!session.PrintObject(ToJson(response)))
    Print(fmt::format("{}/{} deleted\n", FindKind(kind)->singular, flags.name));
  return 0;
}

}  // namespace

void AddDelete(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("delete", "Delete a check or a receiver");
  auto flags = std::make_shared<Flags>();
  command->add_option("KIND", flags->kind, "check or receiver")->required();
  command->add_option("NAME", flags->name, "Its name")->required();
  command->add_flag("--yes", flags->yes, "Do it without asking");
  command->callback([&session, flags] { session.command = [&session, flags] { return Delete(session, *flags); }; });
}

}  // namespace muster::ctl
