#include "control-plane/rpc/spec_service.h"

#include <set>

#include "control-plane/decide/job_schedule.h"
#include "control-plane/rpc/paging.h"
#include "lib/spec/spec.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr int kMostDocuments = 10'000;

using Documents = google::protobuf::RepeatedPtrField<v1::Document>;

// What can only be told by looking at the slots that are to come.
Status CheckSlots(const v1::Document& document, absl::Time now) {
  if (!document.has_job() || !document.job().has_schedule()) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const Schedule schedule, ReadSchedule(document.job().schedule()));
  return CheckSchedule(schedule, now);
}

// The documents with defaults filled in, or every problem of them in one message.
StatusOr<std::vector<v1::Document>> Validated(const Documents& sent, absl::Time now) {
  if (sent.size() > kMostDocuments) {
    return ResourceExhausted("{} documents at once; at most {} are taken", sent.size(),
                             kMostDocuments);
  }
  std::vector<v1::Document> documents(sent.begin(), sent.end());
  std::string problems;
  std::set<std::pair<std::string, std::string>> seen;
  for (v1::Document& document : documents) {
    const std::vector<spec::Problem> wrong = spec::ValidateDocument(document);
    for (const spec::Problem& problem : wrong) {
      problems += (problems.empty() ? "" : "\n") + spec::Text(problem);
    }
    if (const Status slots = CheckSlots(document, now); wrong.empty() && !slots.ok()) {
      problems += fmt::format("{}{}/{}: spec.schedule.{}", problems.empty() ? "" : "\n",
                              document.kind(), document.metadata().name(), Message(slots));
    }
    if (!seen.emplace(document.kind(), document.metadata().name()).second) {
      problems += fmt::format("{}{}/{} stands twice in one request", problems.empty() ? "" : "\n",
                              document.kind(), document.metadata().name());
    }
  }
  if (!problems.empty()) return InvalidArgument("{}", problems);
  return documents;
}

void SetItems(std::vector<v1::SpecChange> changes,
              google::protobuf::RepeatedPtrField<v1::SpecChange>* items) {
  for (v1::SpecChange& change : changes) *items->Add() = std::move(change);
}

}  // namespace

grpc::ServerUnaryReactor* SpecService::ApplySpecs(grpc::CallbackServerContext* context,
                                                  const v1::ApplySpecsRequest* request,
                                                  v1::ApplySpecsResponse* response) {
  return gate_.Serve(
      context, "muster.v1.SpecService.ApplySpecs",
      [=, this](const net::Identity& caller) { return Apply(caller, *request, *response); });
}

grpc::ServerUnaryReactor* SpecService::DiffSpecs(grpc::CallbackServerContext* context,
                                                 const v1::DiffSpecsRequest* request,
                                                 v1::DiffSpecsResponse* response) {
  return gate_.Serve(context, "muster.v1.SpecService.DiffSpecs",
                     [=, this](const net::Identity&) { return Diff(*request, *response); });
}

grpc::ServerUnaryReactor* SpecService::ListSpecs(grpc::CallbackServerContext* context,
                                                 const v1::ListSpecsRequest* request,
                                                 v1::ListSpecsResponse* response) {
  return gate_.Serve(context, "muster.v1.SpecService.ListSpecs",
                     [=, this](const net::Identity&) { return List(*request, *response); });
}

grpc::ServerUnaryReactor* SpecService::DeleteSpecs(grpc::CallbackServerContext* context,
                                                   const v1::DeleteSpecsRequest* request,
                                                   v1::DeleteSpecsResponse* response) {
  return gate_.Serve(
      context, "muster.v1.SpecService.DeleteSpecs",
      [=, this](const net::Identity& caller) { return Delete(caller, *request, *response); });
}

Status SpecService::Apply(const net::Identity& caller, const v1::ApplySpecsRequest& request,
                          v1::ApplySpecsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<v1::Document> documents,
                          Validated(request.documents(), clock_.Now()));
  if (request.dry_run()) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<v1::SpecDiff> diffs, store_.specs().Diff(documents));
    for (const v1::SpecDiff& diff : diffs) *response.add_items() = diff.change();
    return OkStatus();
  }
  AuditNote note;
  note.actor = net::Text(caller);
  note.action = "spec.apply";
  note.at = clock_.Now();
  MUSTER_ASSIGN_OR_RETURN(std::vector<v1::SpecChange> changes,
                          store_.specs().Apply(documents, note));
  SetItems(std::move(changes), response.mutable_items());
  on_change_();
  return OkStatus();
}

Status SpecService::Diff(const v1::DiffSpecsRequest& request, v1::DiffSpecsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<v1::Document> documents,
                          Validated(request.documents(), clock_.Now()));
  MUSTER_ASSIGN_OR_RETURN(std::vector<v1::SpecDiff> diffs, store_.specs().Diff(documents));
  for (v1::SpecDiff& diff : diffs) *response.add_items() = std::move(diff);
  return OkStatus();
}

Status SpecService::List(const v1::ListSpecsRequest& request, v1::ListSpecsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> after,
                          ReadPageToken(request.page_token(), 2));
  MUSTER_ASSIGN_OR_RETURN(SpecPage page,
                          store_.specs().List(request.kind(), request.name(), {after[0], after[1]},
                                              PageSize(request.page_size())));
  for (SpecRow& row : page.rows) {
    v1::StoredSpec& item = *response.add_items();
    *item.mutable_document() = std::move(row.document);
    item.set_generation(row.generation);
    item.set_hash(row.hash);
    *item.mutable_changed_at() = wire::ToProto(row.changed_at);
    item.set_changed_by(row.changed_by);
  }
  if (page.more) {
    const v1::Document& last = response.items(response.items_size() - 1).document();
    response.set_next_page_token(MakePageToken({last.kind(), last.metadata().name()}));
  }
  return OkStatus();
}

Status SpecService::Delete(const net::Identity& caller, const v1::DeleteSpecsRequest& request,
                           v1::DeleteSpecsResponse& response) {
  std::vector<SpecKey> keys;
  for (const v1::SpecName& name : request.names()) keys.push_back({name.kind(), name.name()});
  if (keys.empty() || keys.size() > kMostDocuments) {
    return InvalidArgument("name the documents to delete, at most {}", kMostDocuments);
  }
  AuditNote note;
  note.actor = net::Text(caller);
  note.action = "spec.delete";
  note.at = clock_.Now();
  MUSTER_ASSIGN_OR_RETURN(std::vector<v1::SpecChange> changes, store_.specs().Delete(keys, note));
  SetItems(std::move(changes), response.mutable_items());
  on_change_();
  return OkStatus();
}

}  // namespace muster::control
