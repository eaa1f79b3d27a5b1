#include "ctl/commands/commands.h"
#include "muster/v1/state_service.grpc.pb.h"

#include <map>

namespace muster::ctl {
namespace {

struct Flags {
  std::string check, agent;
};
// By check and agent.
using Shown = std::map<std::pair<std::string, std::string>, Json>;

void Redraw(const Session& session, const Shown& shown) {
  Json items = Json::array();
  for (const auto& [key, item] : shown) items.push_back(item);
  Print("\x1b[H\x1b[J" + TableText(FindKind("states")->columns, items, session.style()));
}

void Take(const v1::WatchEvent& event, Shown& shown) {
  const v1::State& state = event.has_removed() ? event.removed() : event.state();
  const auto key = std::pair(state.check(), state.agent());
  if (event.has_state()) shown[key] = ToJson(state);
  if (event.has_removed()) shown.erase(key);
}

// {"state": …}, {"synced": true} or {"removed": …}.
void PrintEvent(const v1::WatchEvent& event) { Print(LineText(ToJson(event))); }

// Follows one stream to its end.
Status Follow(Session& session, const Flags& flags, bool lines, bool& heard) {
  v1::WatchRequest request;
  request.set_check(flags.check);
  request.set_agent(flags.agent);
  const auto stub = v1::StateService::NewStub(session.channel());
  grpc::ClientContext call;
  const auto stream = stub->Watch(&call, request);
  Shown shown;
  bool synced = false;
  for (v1::WatchEvent event; stream->Read(&event);) {
    heard = true;
    Take(event, shown);
    synced = synced || event.synced();
    if (lines) PrintEvent(event);
    if (!lines && synced) Redraw(session, shown);
    if (std::fflush(stdout) != 0) return Unknown("the output could not be written");
  }
  return net::ToAbsl(stream->Finish());
}

bool Passes(const Status& status) {
  return status.ok() || status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted || status.code() == absl::StatusCode::kCancelled;
}

// Until interrupted: a stream that breaks is opened again, and tells every state afresh. Only a control plane
// that never answered, or refuses, ends it.
StatusOr<int> Watch(Session& session, const Flags& flags) {
  const bool lines = session.json() || !session.terminal();
  bool heard = false;
  while (true) {
    MUSTER_RETURN_IF_ERROR(session.Connect());
    const Status status = Follow(session, flags, lines, heard);
    if (!heard || !Passes(status)) return status.ok() ? StatusOr<int>(0) : StatusOr<int>(status);
    Complain(fmt::format("the connection ended ({}); connecting again\n", Message(status)));
    session.Disconnect();
  }
}

}  // namespace

void AddWatch(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("watch", "States as they change; JSON lines off a terminal");
  auto flags = std::make_shared<Flags>();
  command->add_option("--check", flags->check, "Only this check");
  command->add_option("--agent", flags->agent, "Only this agent");
  command->callback([&session, flags] { session.command = [&session, flags] { return Watch(session, *flags); }; });
}

}  // namespace muster::ctl
