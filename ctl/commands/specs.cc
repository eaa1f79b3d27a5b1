#include <iostream>
#include <iterator>

#include "ctl/commands/commands.h"
#include "ctl/render/diff.h"
#include "lib/base/file.h"
#include "lib/spec/spec.h"
#include "muster/v1/spec_service.grpc.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::ctl {
namespace {

using Documents = std::vector<v1::Document>;

// Every document of the files, or every problem on stderr.
StatusOr<Documents> ReadDocuments(const std::vector<std::string>& files) {
  Documents documents;
  size_t problems = 0;
  for (const std::string& file : files) {
    std::string yaml;
    if (file == "-") {
      yaml.assign(std::istreambuf_iterator<char>(std::cin), {});
    } else {
      MUSTER_ASSIGN_OR_RETURN(yaml, ReadFile(file));
    }
    spec::Parsed parsed = spec::ParseYaml(yaml, file == "-" ? "stdin" : file);
    for (const spec::Problem& problem : parsed.problems) std::cerr << spec::Text(problem) << "\n";
    problems += parsed.problems.size();
    std::move(parsed.documents.begin(), parsed.documents.end(), std::back_inserter(documents));
  }
  if (problems > 0) {
    // Exit code 1: the file is wrong, not the usage.
    return Status(absl::StatusCode::kOutOfRange, fmt::format("{} problem{}; nothing was sent",
                                                             problems, problems == 1 ? "" : "s"));
  }
  if (documents.empty()) return InvalidArgument("the files hold no document");
  return documents;
}

std::string ChangeLine(const v1::SpecChange& change) {
  std::string kind = change.kind();
  kind[0] = static_cast<char>(std::tolower(kind[0]));
  return fmt::format("{}/{} {}\n", kind, change.name(),
                     ToJson(change)["action"].get<std::string>());
}

void PrintChanges(const Session& session,
                  const google::protobuf::RepeatedPtrField<v1::SpecChange>& changes) {
  Json items = Json::array();
  for (const v1::SpecChange& change : changes) items.push_back(ToJson(change));
  if (session.json() || session.flags().output == "yaml")
    return session.PrintOne({{"items", items}});
  for (const v1::SpecChange& change : changes) std::cout << ChangeLine(change);
}

// A spec that the server refuses is a wrong file, not wrong usage.
Status Refused(const Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return Status(absl::StatusCode::kOutOfRange, status.message());
}

Status Apply(Session& session, const std::vector<std::string>& files, bool dry_run) {
  MUSTER_ASSIGN_OR_RETURN(const Documents documents, ReadDocuments(files));
  v1::ApplySpecsRequest request;
  for (const v1::Document& document : documents) *request.add_documents() = document;
  request.set_dry_run(dry_run);
  v1::ApplySpecsResponse response;
  MUSTER_RETURN_IF_ERROR(
      Refused(session.Try([&](const auto& channel, grpc::ClientContext& context) {
        return v1::SpecService::NewStub(channel)->ApplySpecs(&context, request, &response);
      })));
  PrintChanges(session, response.items());
  return OkStatus();
}

Status Diff(Session& session, const std::vector<std::string>& files, int& exit_code) {
  MUSTER_ASSIGN_OR_RETURN(const Documents documents, ReadDocuments(files));
  v1::DiffSpecsRequest request;
  for (const v1::Document& document : documents) *request.add_documents() = document;
  v1::DiffSpecsResponse response;
  MUSTER_RETURN_IF_ERROR(
      Refused(session.Try([&](const auto& channel, grpc::ClientContext& context) {
        return v1::SpecService::NewStub(channel)->DiffSpecs(&context, request, &response);
      })));
  for (const v1::SpecDiff& diff : response.items()) {
    if (diff.change().action() == v1::SpecChange::ACTION_UNCHANGED) continue;
    exit_code = 1;
    std::cout << ChangeLine(diff.change())
              << DiffText(diff.change().name(),
                          diff.has_before() ? spec::FormatYaml(diff.before()) : "",
                          spec::FormatYaml(diff.after()));
  }
  return OkStatus();
}

StatusOr<std::string> KindOf(const std::string& text) {
  if (text == "check" || text == "checks" || text == "Check") return std::string("Check");
  if (text == "receiver" || text == "receivers" || text == "Receiver")
    return std::string("Receiver");
  if (text == "job" || text == "jobs" || text == "Job") return std::string("Job");
  return InvalidArgument(
      "there is no kind \"{}\" to delete; there are check, job, receiver and "
      "replica",
      text);
}

Status DeleteReplicas(Session& session, const std::vector<std::string>& ids, bool yes) {
  if (ids.empty()) return InvalidArgument("name the replica to forget: delete replica ID");
  MUSTER_RETURN_IF_ERROR(session.Confirm(
      fmt::format("Forget {} lost replica{}?", ids.size(), ids.size() == 1 ? "" : "s"), yes));
  for (const std::string& id : ids) {
    v1::DeleteReplicaRequest request;
    request.set_id(id);
    v1::DeleteReplicaResponse response;
    MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
      return v1::SystemService::NewStub(channel)->DeleteReplica(&context, request, &response);
    }));
    std::cout << fmt::format("replica/{} deleted\n", id);
  }
  return OkStatus();
}

Status Delete(Session& session, const std::string& kind, const std::vector<std::string>& names,
              const std::vector<std::string>& files, bool yes) {
  if (kind == "replica" || kind == "replicas") return DeleteReplicas(session, names, yes);
  v1::DeleteSpecsRequest request;
  for (const std::string& name : names) {
    v1::SpecName& one = *request.add_names();
    MUSTER_ASSIGN_OR_RETURN(*one.mutable_kind(), KindOf(kind));
    one.set_name(name);
  }
  if (!files.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const Documents documents, ReadDocuments(files));
    for (const v1::Document& document : documents) {
      v1::SpecName& one = *request.add_names();
      one.set_kind(document.kind());
      one.set_name(document.metadata().name());
    }
  }
  if (request.names_size() == 0)
    return InvalidArgument("name what to delete: KIND NAME, or -f FILE");
  MUSTER_RETURN_IF_ERROR(
      session.Confirm(fmt::format("Delete {} document{}, with the states of checks?",
                                  request.names_size(), request.names_size() == 1 ? "" : "s"),
                      yes));
  v1::DeleteSpecsResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::SpecService::NewStub(channel)->DeleteSpecs(&context, request, &response);
  }));
  PrintChanges(session, response.items());
  return OkStatus();
}

std::shared_ptr<std::vector<std::string>> AddFiles(CLI::App* command, bool required) {
  auto files = std::make_shared<std::vector<std::string>>();
  CLI::Option* option =
      command->add_option("-f,--file", *files, "spec file, - for stdin; repeatable");
  option->allow_extra_args(false);
  if (required) option->required();
  return files;
}

}  // namespace

void AddApply(Cli& cli) {
  CLI::App* apply =
      cli.app.add_subcommand("apply", "make the control plane's specs like the files: all or none");
  const auto files = AddFiles(apply, true);
  auto dry_run = std::make_shared<bool>(false);
  apply->add_flag("--dry-run", *dry_run, "say what would change, change nothing");
  apply->callback([&cli, files, dry_run] {
    cli.Run([&](Session& session) { return Apply(session, *files, *dry_run); });
  });
}

void AddDiff(Cli& cli) {
  CLI::App* diff =
      cli.app.add_subcommand("diff", "what apply would change; exits 0 if nothing, 1 if something");
  const auto files = AddFiles(diff, true);
  diff->callback([&cli, files] {
    cli.Run([&](Session& session) { return Diff(session, *files, cli.exit_code); });
  });
}

void AddDelete(Cli& cli) {
  CLI::App* command = cli.app.add_subcommand(
      "delete", "delete checks, jobs or receivers: all or none; forget a lost replica");
  auto kind = std::make_shared<std::string>();
  auto names = std::make_shared<std::vector<std::string>>();
  auto yes = std::make_shared<bool>(false);
  command->add_option("kind", *kind, "check, job, receiver or replica");
  command->add_option("name", *names, "which; several may be named");
  const auto files = AddFiles(command, false);
  command->add_flag("--yes", *yes, "do not ask");
  command->callback([&cli, kind, names, files, yes] {
    cli.Run([&](Session& session) { return Delete(session, *kind, *names, *files, *yes); });
  });
}

}  // namespace muster::ctl
