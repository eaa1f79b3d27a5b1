#include <iostream>
#include <map>

#include "ctl/commands/commands.h"
#include "lib/base/text.h"
#include "muster/v1/state_service.grpc.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::ctl {
namespace {

// What a watcher has seen: the newest state of each check on each agent.
class Board {
 public:
  void Take(const v1::WatchEvent& event) {
    if (event.has_state()) states_[{event.state().agent(), event.state().check()}] = event.state();
    if (event.has_removed()) states_.erase({event.removed().agent(), event.removed().check()});
  }
  void Clear() { states_.clear(); }
  // The screen is written over from its top; what is left of older lines goes.
  void Draw(absl::Time now) const {
    Json items = Json::array();
    for (const auto& [key, state] : states_) items.push_back(ToJson(state));
    const std::string text =
        TableText(FindKind("states")->columns, items, {.now = now, .colour = StdoutHasColour()});
    std::string screen = "\x1b[H";
    for (const char c : text) screen += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
    std::cout << screen << "\x1b[K\n"
              << TimeText(absl::FromUnixSeconds(absl::ToUnixSeconds(now))) << "\x1b[K\x1b[J"
              << std::flush;
  }

 private:
  std::map<std::pair<std::string, std::string>, v1::State> states_;
};

Json EventJson(const v1::WatchEvent& event) {
  if (event.has_state()) return {{"type", "state"}, {"state", ToJson(event.state())}};
  if (event.has_removed()) {
    return {{"type", "removed"},
            {"state", {{"check", event.removed().check()}, {"agent", event.removed().agent()}}}};
  }
  return {{"type", "synced"}};
}

Status WatchOnce(Session& session, const v1::WatchRequest& request, bool live, Board& board) {
  return session.TryStream([&](const auto& channel, grpc::ClientContext& context) {
    const auto reader = v1::StateService::NewStub(channel)->Watch(&context, request);
    v1::WatchEvent event;
    bool synced = false;
    board.Clear();
    while (reader->Read(&event)) {
      synced |= event.synced();
      if (!live) {
        std::cout << LineText(EventJson(event)) << std::flush;
        continue;
      }
      board.Take(event);
      if (synced) board.Draw(session.now());
    }
    return reader->Finish();
  });
}

Status Watch(Session& session, const std::string& check, const std::string& agent) {
  v1::WatchRequest request;
  request.set_check(check);
  request.set_agent(agent);
  const bool live = StdoutIsTerminal() && !session.json();
  if (live) std::cout << "\x1b[2J";
  Board board;
  bool ever = false;
  while (true) {
    const Status status = WatchOnce(session, request, live, board);
    const bool away = status.ok() || status.code() == absl::StatusCode::kUnavailable;
    if (!away || (!status.ok() && !ever)) return status;
    ever = true;
    std::cerr << "the control plane is away; connecting again\n";
    absl::Mutex mutex;
    absl::MutexLock lock(&mutex);
    const bool never = false;
    mutex.AwaitWithTimeout(absl::Condition(&never), absl::Seconds(1));
  }
}

// 0.1 of 0.1.7.
std::string MinorOf(const std::string& version) { return version.substr(0, version.rfind('.')); }

Status Version(Session& session) {
  v1::VersionResponse response;
  const Status status = session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::SystemService::NewStub(channel)->Version(&context, {}, &response);
  });
  Json json = {{"client", MUSTER_VERSION},
               {"server", status.ok() ? Json(response.version()) : Json(nullptr)}};
  if (session.json() || session.flags().output == "yaml") {
    session.PrintOne(json);
  } else {
    std::cout << "client " << MUSTER_VERSION << "\n";
    if (status.ok())
      std::cout << fmt::format("server {}, as {}\n", response.version(), response.caller());
  }
  if (status.ok() && MinorOf(response.version()) != MinorOf(MUSTER_VERSION)) {
    std::cerr << fmt::format(
        "warning: client {} and server {} differ by a minor version or more; use the server's\n",
        MUSTER_VERSION, response.version());
  }
  return status;
}

Status Doctor(Session& session, int& exit_code) {
  v1::DoctorResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::SystemService::NewStub(channel)->Doctor(&context, {}, &response);
  }));
  Json items = Json::array();
  for (const v1::Finding& finding : response.items()) {
    items.push_back(ToJson(finding));
    if (finding.level() != v1::Finding::LEVEL_OK) exit_code = 1;
  }
  if (session.json() || session.flags().output == "yaml")
    return session.PrintOne({{"items", items}}), OkStatus();
  const std::vector<Column> columns = {{"LEVEL", "level", Form::kState},
                                       {"SUBJECT", "subject"},
                                       {"MESSAGE", "message"},
                                       {"REMEDY", "remedy"}};
  std::cout << TableText(columns, items, {.now = session.now(), .colour = StdoutHasColour()});
  return OkStatus();
}

}  // namespace

void AddWatch(Cli& cli) {
  CLI::App* watch = cli.app.add_subcommand(
      "watch", "states as they change: a live table, or JSON lines off a terminal");
  auto check = std::make_shared<std::string>();
  auto agent = std::make_shared<std::string>();
  watch->add_option("--check", *check, "only this check");
  watch->add_option("--agent", *agent, "only this agent");
  watch->callback([&cli, check, agent] {
    cli.Run([&](Session& session) { return Watch(session, *check, *agent); });
  });
}

void AddVersion(Cli& cli) {
  cli.app.add_subcommand("version", "versions of client and server")->callback([&cli] {
    cli.Run(Version);
  });
}

void AddDoctor(Cli& cli) {
  cli.app.add_subcommand("doctor", "what is wrong here, and what to do; exits 1 if anything is")
      ->callback(
          [&cli] { cli.Run([&](Session& session) { return Doctor(session, cli.exit_code); }); });
}

}  // namespace muster::ctl
