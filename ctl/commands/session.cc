#include "ctl/commands/session.h"

#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::ctl {
namespace {

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Where a context is looked for that nobody names, by the XDG base directory specification.
std::string HomeContext() {
  std::string folder = FromEnvironment("XDG_CONFIG_HOME");
  if (folder.empty()) folder = FromEnvironment("HOME") + "/.config";
  return folder + "/muster/context.yaml";
}

bool Unreached(const Status& status) { return status.code() == absl::StatusCode::kUnavailable; }

}  // namespace

bool StdoutIsTerminal() { return isatty(STDOUT_FILENO) == 1; }

bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

bool StdoutHasColour() { return StdoutIsTerminal() && std::getenv("NO_COLOR") == nullptr; }

Status Session::Open() {
  MUSTER_ASSIGN_OR_RETURN(timeout_, ParseDuration(flags_.timeout));
  if (flags_.context.empty()) flags_.context = FromEnvironment("MUSTER_CONTEXT");
  if (flags_.server.empty()) flags_.server = FromEnvironment("MUSTER_SERVER");
  if (flags_.context.empty()) {
    flags_.context = HomeContext();
    if (!FileExists(flags_.context)) {
      return InvalidArgument(
          "no context: give --context FILE, set MUSTER_CONTEXT or copy one to {}; muster-control "
          "init writes one as DIR/admin.context",
          flags_.context);
    }
  }
  const StatusOr<net::Context> context = net::ReadContext(flags_.context);
  if (!context.ok()) return InvalidArgument("{}", Message(context.status()));
  context_ = *context;
  if (!flags_.server.empty()) {
    MUSTER_RETURN_IF_ERROR(ParseHostPort(flags_.server).status());
    context_.servers = {flags_.server};
  }
  return OkStatus();
}

Status Session::On(const std::string& server, const Call& call, bool deadline) {
  grpc::ClientContext context;
  const auto channel = net::OpenChannel(server, context_.identity);
  // A server that is away is told apart from a call that takes long.
  if (!channel->WaitForConnected(
          absl::ToChronoTime(now() + std::min(timeout_, absl::Seconds(3))))) {
    return Unavailable("no control plane can be reached at {}", server);
  }
  if (deadline) context.set_deadline(absl::ToChronoTime(now() + timeout_));
  return net::ToAbsl(call(channel, context));
}

Status Session::Try(const Call& call) {
  Status status;
  for (const std::string& server : context_.servers) {
    status = On(server, call, true);
    if (!Unreached(status)) return status;
  }
  return status;
}

Status Session::TryStream(const Call& call, grpc::ClientContext**) {
  Status status;
  for (const std::string& server : context_.servers) {
    status = On(server, call, false);
    if (!Unreached(status)) return status;
  }
  return status;
}

void Session::PrintList(const Json& items, std::string_view kind_name) const {
  if (flags_.output == "json" || flags_.output == "yaml") return PrintOne({{"items", items}});
  const Kind* kind = FindKind(kind_name);
  if (flags_.output == "name") {
    for (const Json& item : items) std::cout << NameText(*kind, item);
    return;
  }
  if (items.empty()) {
    std::cerr << "nothing found\n";
    return;
  }
  std::cout << TableOf(*kind, items, style());
}

TableStyle Session::style() const {
  return {.now = now(), .wide = wide(), .colour = StdoutHasColour()};
}

void Session::PrintItem(const Json& item, std::string_view kind) const {
  structured() ? PrintOne(item) : PrintList(Json::array({item}), kind);
}

void Session::PrintOne(const Json& item) const {
  if (flags_.output == "json") {
    std::cout << IndentedText(item);
  } else {
    std::cout << YamlText(item);
  }
}

Status Session::Confirm(const std::string& question, bool yes) const {
  if (yes) return OkStatus();
  if (flags_.no_input || isatty(STDIN_FILENO) != 1) {
    return InvalidArgument("{} Say --yes to do it without being asked", question);
  }
  std::cerr << question << " [y/N] ";
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes"
             ? OkStatus()
             : Status(absl::StatusCode::kCancelled, "nothing was done");
}

}  // namespace muster::ctl
