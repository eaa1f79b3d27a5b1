// doctor and version.
#include "ctl/commands/commands.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::ctl {
namespace {

const Kind& Findings() {
  static const Kind kind = {"findings", "finding", "subject",
      {{"LEVEL", "level", Form::kState}, {"SUBJECT", "subject"}, {"MESSAGE", "message"}, {"REMEDY", "remedy"}}};
  return kind;
}

StatusOr<int> Doctor(Session& session) {
  v1::DoctorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::SystemService>(&v1::SystemService::Stub::Doctor, v1::DoctorRequest(), response));
  session.PrintItems(Findings(), ToJson(response).at("items"));
  for (const v1::Finding& finding : response.items())
    if (finding.level() != v1::Finding::LEVEL_OK) return kExitFailed;
  return 0;
}

bool HasContext(const Session& session) {
  return !session.globals.context.empty() || secure_getenv("MUSTER_CONTEXT") != nullptr;
}

void WarnOfSkew(const v1::VersionResponse& server) {
  if (server.version() == MUSTER_VERSION) return;
  Complain(fmt::format("warning: musterctl is {}, the control plane {}: use the same version\n", MUSTER_VERSION,
                       server.version()));
}

StatusOr<int> Version(Session& session) {
  Json json = {{"client", {{"version", MUSTER_VERSION}}}, {"server", nullptr}};
  if (HasContext(session)) {
    v1::VersionResponse response;
    MUSTER_RETURN_IF_ERROR(session.Call<v1::SystemService>(&v1::SystemService::Stub::Version, v1::VersionRequest(), response));
    json["server"] = ToJson(response);
    WarnOfSkew(response);
  }
  if (session.PrintObject(json)) return 0;
  Print(fmt::format("client  {}\n", MUSTER_VERSION));
  if (!json["server"].is_null())
    Print(fmt::format("server  {}  as {}\n", json["server"]["version"].get<std::string>(),
                      json["server"]["caller"].get<std::string>()));
  return 0;
}

}  // namespace

void AddSystem(CLI::App& app, Session& session) {
  app.add_subcommand("doctor", "What is wrong with this installation; exit 1 when something is")
      ->callback([&session] { session.command = [&session] { return Doctor(session); }; });
  app.add_subcommand("version", "The versions of musterctl and of the control plane")
      ->callback([&session] { session.command = [&session] { return Version(session); }; });
}

}  // namespace muster::ctl
