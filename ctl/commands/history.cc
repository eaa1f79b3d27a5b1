#include "ctl/commands/commands.h"
#include "ctl/commands/flags.h"
#include "ctl/render/history.h"
#include "lib/base/text.h"
#include "muster/v1/state_service.grpc.pb.h"

namespace muster::ctl {
namespace {

struct Flags {
  std::string check, agent, since;
  uint32_t limit = 0;
};

StatusOr<v1::HistoryRequest> Request(Session& session, const Flags& flags) {
  v1::HistoryRequest request;
  request.set_check(flags.check);
  request.set_agent(flags.agent);
  request.set_limit(flags.limit);
  if (flags.since.empty()) return request;
  MUSTER_ASSIGN_OR_RETURN(const absl::Time since, SinceFlag(session, "--since", flags.since));
  PutTime(since, *request.mutable_since());
  return request;
}

StatusOr<int> History(Session& session, const Flags& flags) {
  MUSTER_ASSIGN_OR_RETURN(const v1::HistoryRequest request, Request(session, flags));
  MUSTER_RETURN_IF_ERROR(session.Connect());
  const auto stub = v1::StateService::NewStub(session.channel());
  // No deadline: a long history takes its time, and the connection's keepalive finds a dead server.
  grpc::ClientContext call;
  const auto stream = stub->History(&call, request);
  if (!session.json()) Print(HistoryHeader());
  v1::HistoryEntry entry;
  while (stream->Read(&entry))
    Print(session.json() ? LineText(HistoryJson(entry)) : HistoryLine(entry, session.colour()));
  MUSTER_RETURN_IF_ERROR(net::ToAbsl(stream->Finish()));
  return 0;
}

}  // namespace

void AddHistory(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("history", "Every result of a check on an agent, oldest first");
  auto flags = std::make_shared<Flags>();
  command->add_option("CHECK", flags->check, "The check's name")->required();
  command->add_option("--agent", flags->agent, "The agent's name")->required();
  command->add_option("--since", flags->since, "How far back, like 1h, or a time");
  command->add_option("--limit", flags->limit, "At most so many");
  command->callback([&session, flags] { session.command = [&session, flags] { return History(session, *flags); }; });
}

}  // namespace muster::ctl
