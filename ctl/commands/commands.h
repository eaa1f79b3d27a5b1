// One function a verb. Each adds its command to the tree; the command's callback leaves its exit
// code.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>

#include "ctl/commands/session.h"
#include "muster/v1/alert_service.pb.h"
#include "muster/v1/identity.pb.h"
#include "muster/v1/run_service.pb.h"
#include "muster/v1/spec_service.pb.h"
#include "muster/v1/state_service.pb.h"

namespace muster::ctl {

struct Cli {
  CLI::App app{"musterctl: drive muster's control plane"};
  Flags flags;
  int exit_code = 0;

  // Runs `body` with an open session, and turns its status into the exit code and a message.
  void Run(const std::function<Status(Session&)>& body);
};

void AddApply(Cli& cli);
void AddDiff(Cli& cli);
void AddGet(Cli& cli);
void AddDescribe(Cli& cli);
void AddDelete(Cli& cli);
void AddHistory(Cli& cli);
void AddToken(Cli& cli);
void AddAgent(Cli& cli);
void AddOperator(Cli& cli);
void AddAlert(Cli& cli);
void AddRun(Cli& cli);
void AddLogs(Cli& cli);
void AddCancel(Cli& cli);
void AddPause(Cli& cli);
void AddResume(Cli& cli);
void AddBackfill(Cli& cli);
void AddBackup(Cli& cli);
void AddWatch(Cli& cli);
void AddDoctor(Cli& cli);
void AddVersion(Cli& cli);
void AddCompletion(Cli& cli);

// A completion script for the command tree; `shell` is bash, zsh or fish.
std::string CompletionScript(const CLI::App& app, const std::string& shell);

// Everything of a kind, all pages.
StatusOr<std::vector<v1::State>> AllStates(Session& session, const std::string& check,
                                           const std::string& agent);
StatusOr<std::vector<v1::Agent>> AllAgents(Session& session, const std::string& name);
StatusOr<std::vector<v1::Alert>> AllAlerts(Session& session);
// At most `limit` runs, 0 is all; `request` says which. `more`: whether there are others.
struct SomeRuns {
  std::vector<v1::Run> runs;
  bool more = false;
};
StatusOr<SomeRuns> ListRuns(Session& session, v1::ListRunsRequest request, size_t limit);
StatusOr<std::vector<v1::Job>> AllJobs(Session& session, const std::string& name);
// Kind is "Check", "Job", "Receiver", or empty for all.
StatusOr<std::vector<v1::StoredSpec>> AllSpecs(Session& session, const std::string& kind,
                                               const std::string& name);

// The document as an operator wrote it, and what the store knows of it.
Json SpecJson(const v1::StoredSpec& stored);
Status GetSpecs(Session& session, const std::string& kind, const std::string& name);

// What `get runs` and `get jobs` list, and `describe run` and `describe job` tell.
struct RunFilter {
  std::string job;
  std::string agent;
  std::vector<std::string> states;  // as operators write them
  size_t limit = 1000;              // 0 is all
};
Status GetRuns(Session& session, const std::string& run, const RunFilter& filter);
Status GetJobs(Session& session, const std::string& name);
Status DescribeRun(Session& session, const std::string& run);
Status DescribeJob(Session& session, const std::string& name);

}  // namespace muster::ctl
