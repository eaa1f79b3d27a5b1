#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <memory>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>

#include "ctl/commands/commands.h"
#include "ctl/render/board.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "muster/v1/state_service.grpc.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::ctl {
namespace {

Json EventJson(const v1::WatchEvent& event) {
  if (event.has_state()) return {{"type", "state"}, {"state", ToJson(event.state())}};
  if (event.has_removed()) {
    return {{"type", "removed"},
            {"state", {{"check", event.removed().check()}, {"agent", event.removed().agent()}}}};
  }
  return {{"type", "synced"}};
}

constexpr absl::Duration kDrawEvery = absl::Seconds(1);
// Results that change nothing are no events: when each check was last observed is asked for.
constexpr int kRefreshEvery = 5;  // drawings
constexpr uint32_t kMostRefreshed = 1000;

// Long lines are cut at the edge meanwhile, not wrapped: the table would lose its shape.
constexpr char kBeginLive[] = "\x1b[2J\x1b[?7l";
constexpr char kEndLive[] = "\x1b[?7h";

size_t TerminalLines() {
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
  return known ? size.ws_row : 24;
}

// The table on the terminal: events come in from the stream, and a thread of its own draws.
class LiveTable {
 public:
  LiveTable(Session& session, const v1::WatchRequest& request) : session_(session) {
    list_.set_check(request.check());
    list_.set_agent(request.agent());
    list_.set_page_size(kMostRefreshed);
    std::cout << kBeginLive << std::flush;
    // What the shell shows for an interrupted command, and the terminal as it was.
    for (const int interrupt : {SIGINT, SIGTERM}) {
      signal(interrupt, [](int number) {
        if (write(STDOUT_FILENO, kEndLive, sizeof kEndLive - 1) < 0) _exit(1);
        _exit(128 + number);
      });
    }
  }
  ~LiveTable() {
    loop_.Stop();
    std::cout << kEndLive << std::flush;
  }

  void Begin(const std::shared_ptr<grpc::Channel>& channel) {
    absl::MutexLock lock(&mutex_);
    board_.Clear();
    channel_ = channel;
    synced_ = false;
  }
  void Take(const v1::WatchEvent& event) {
    absl::MutexLock lock(&mutex_);
    board_.Take(event);
    synced_ |= event.synced();
    if (synced_) DrawLocked();
  }

 private:
  void Tick() {
    std::shared_ptr<grpc::Channel> channel;
    {
      absl::MutexLock lock(&mutex_);
      if (!synced_) return;
      if (++drawn_ % kRefreshEvery == 0) channel = channel_;
    }
    v1::ListStatesResponse seen;
    if (channel != nullptr) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(session_.now() + kDrawEvery));
      v1::StateService::NewStub(channel)->ListStates(&context, list_, &seen);
    }
    absl::MutexLock lock(&mutex_);
    for (const v1::State& state : seen.items()) board_.Refresh(state);
    DrawLocked();
  }
  void DrawLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const TableStyle style{
        .now = session_.now(), .wide = session_.wide(), .colour = StdoutHasColour()};
    std::cout << OverTheTop(board_.Text(style, TerminalLines() - 1)) << std::flush;
  }

  Session& session_;
  v1::ListStatesRequest list_;
  absl::Mutex mutex_;
  Board board_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(mutex_);
  bool synced_ ABSL_GUARDED_BY(mutex_) = false;
  int drawn_ ABSL_GUARDED_BY(mutex_) = 0;
  exec::PeriodicLoop loop_{"draw", kDrawEvery, [this] { Tick(); }};  // last: uses all the others
};

Status WatchOnce(Session& session, const v1::WatchRequest& request, LiveTable* live) {
  return session.TryStream([&](const auto& channel, grpc::ClientContext& context) {
    const auto reader = v1::StateService::NewStub(channel)->Watch(&context, request);
    if (live != nullptr) live->Begin(channel);
    v1::WatchEvent event;
    while (reader->Read(&event)) {
      if (live != nullptr) {
        live->Take(event);
      } else {
        std::cout << LineText(EventJson(event)) << std::flush;
      }
    }
    return reader->Finish();
  });
}

Status Watch(Session& session, const std::string& check, const std::string& agent) {
  v1::WatchRequest request;
  request.set_check(check);
  request.set_agent(agent);
  std::unique_ptr<LiveTable> live;
  if (StdoutIsTerminal() && !session.json()) live = std::make_unique<LiveTable>(session, request);
  bool ever = false;
  while (true) {
    const Status status = WatchOnce(session, request, live.get());
    const bool away = status.ok() || status.code() == absl::StatusCode::kUnavailable;
    if (!away || (!status.ok() && !ever)) return status;
    ever = true;
    std::cerr << "the control plane is away; connecting again\n";
    absl::Notification never;
    never.WaitForNotificationWithTimeout(absl::Seconds(1));
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
