// A control plane that knows runs only, behind real mutual TLS, and musterctl as a process that
// drives it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/net/context.h"
#include "lib/net/tls.h"
#include "lib/testing/servers.h"
#include "lib/wire/time.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {

inline constexpr char kRunId[] = "0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d";

inline v1::Run RunIn(v1::RunState state, const std::string& reason = "",
                     const std::string& id = kRunId) {
  v1::Run run;
  run.set_id(id);
  run.set_job("nightly");
  run.set_state(state);
  run.set_reason(reason);
  run.set_agent(state == v1::RUN_STATE_QUEUED ? "" : "db-1");
  *run.mutable_slot() = wire::ToProto(absl::FromUnixSeconds(1'790'000'000));
  run.set_attempt(1);
  run.set_attempts(1);
  return run;
}

// One job, nightly. What it answers is set before the program runs.
class RunPlane final : public v1::RunService::Service {
 public:
  // How streams and calls go wrong: so many of the first end with UNAVAILABLE.
  int broken_starts = 0;
  int broken_streams = 0;  // of each kind
  // What WatchRun tells, one after the other. If it `hangs`, neither this nor the log ends.
  std::vector<v1::Run> watched;
  bool hangs = false;
  std::vector<v1::Run> listed;
  std::vector<v1::RunLogEntry> log;
  uint64_t dropped = 0;

  std::set<std::string> request_ids() const {
    absl::MutexLock lock(&mutex_);
    return request_ids_;
  }
  int starts() const {
    absl::MutexLock lock(&mutex_);
    return starts_;
  }
  int streams() const {
    absl::MutexLock lock(&mutex_);
    return streams_;
  }
  v1::CancelRunRequest cancelled() const {
    absl::MutexLock lock(&mutex_);
    return cancelled_;
  }
  v1::PauseJobRequest paused() const {
    absl::MutexLock lock(&mutex_);
    return paused_;
  }

  grpc::Status StartRun(grpc::ServerContext*, const v1::StartRunRequest* request,
                        v1::StartRunResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (request->job() != "nightly")
      return {grpc::NOT_FOUND, "there is no job named " + request->job()};
    request_ids_.insert(request->request_id());
    if (++starts_ <= broken_starts) return {grpc::UNAVAILABLE, "the connection broke"};
    *response->mutable_run() = RunIn(v1::RUN_STATE_QUEUED, "waits for its agent");
    return grpc::Status::OK;
  }
  grpc::Status WatchRun(grpc::ServerContext* context, const v1::WatchRunRequest*,
                        grpc::ServerWriter<v1::Run>* writer) override {
    {
      absl::MutexLock lock(&mutex_);
      if (++streams_ <= broken_streams) return {grpc::UNAVAILABLE, "gone"};
    }
    for (const v1::Run& run : watched) writer->Write(run);
    while (hangs && !context->IsCancelled()) testing::Pause(absl::Milliseconds(20));
    return grpc::Status::OK;
  }
  grpc::Status RunLog(grpc::ServerContext* context, const v1::RunLogRequest*,
                      grpc::ServerWriter<v1::RunLogEntry>* writer) override {
    int stream = 0;
    {
      absl::MutexLock lock(&mutex_);
      stream = ++logs_;
    }
    for (const v1::RunLogEntry& entry : log) {
      writer->Write(entry);
      if (stream <= broken_streams) return {grpc::UNAVAILABLE, "gone"};
    }
    while (hangs && !context->IsCancelled()) testing::Pause(absl::Milliseconds(20));
    return grpc::Status::OK;
  }
  grpc::Status GetRun(grpc::ServerContext*, const v1::GetRunRequest* request,
                      v1::GetRunResponse* response) override {
    if (request->id() != kRunId) return {grpc::NOT_FOUND, "there is no run " + request->id()};
    *response->mutable_run() = RunIn(v1::RUN_STATE_SUCCEEDED);
    response->mutable_run()->set_dropped_lines(dropped);
    return grpc::Status::OK;
  }
  // Two a page, whatever is asked for.
  grpc::Status ListRuns(grpc::ServerContext*, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override {
    std::vector<v1::Run> matching = listed;
    std::erase_if(matching,
                  [&](const v1::Run& run) { return !run.id().starts_with(request->id_prefix()); });
    size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    const size_t end = std::min(matching.size(), at + std::min<size_t>(2, request->page_size()));
    for (; at < end; ++at) *response->add_items() = matching[at];
    if (at < matching.size()) response->set_next_page_token(std::to_string(at));
    return grpc::Status::OK;
  }
  grpc::Status CancelRun(grpc::ServerContext*, const v1::CancelRunRequest* request,
                         v1::CancelRunResponse* response) override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = *request;
    *response->mutable_run() = RunIn(v1::RUN_STATE_RUNNING);
    return grpc::Status::OK;
  }
  grpc::Status PauseJob(grpc::ServerContext*, const v1::PauseJobRequest* request,
                        v1::PauseJobResponse*) override {
    absl::MutexLock lock(&mutex_);
    paused_ = *request;
    return grpc::Status::OK;
  }

 private:
  mutable absl::Mutex mutex_;
  std::set<std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
  int starts_ ABSL_GUARDED_BY(mutex_) = 0;
  int streams_ ABSL_GUARDED_BY(mutex_) = 0;
  int logs_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::CancelRunRequest cancelled_ ABSL_GUARDED_BY(mutex_);
  v1::PauseJobRequest paused_ ABSL_GUARDED_BY(mutex_);
};

class RunCommands : public ::testing::Test {
 protected:
  RunCommands() {
    Certify("ca", {});
    const std::vector<std::string> by_it = {
        "-CA",     folder_.File("ca.pem"),
        "-CAkey",  folder_.File("ca.key"),
        "-addext", std::string("subjectAltName=DNS:") + net::kServerName};
    Certify("server", by_it);
    grpc::SslServerCredentialsOptions options(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = Read("ca.pem");
    options.pem_key_cert_pairs.push_back({Read("server.key"), Read("server.pem")});
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), &port);
    builder.RegisterService(&plane_);
    server_ = builder.BuildAndStart();
    // The server's own certificate does for the client.
    const net::Context context{
        .name = "test",
        .servers = {fmt::format("127.0.0.1:{}", port)},
        .identity = {Read("ca.pem"), Read("server.pem"), Read("server.key")}};
    EXPECT_TRUE(WriteFileAtomically(folder_.File("context"), net::FormatContext(context)).ok());
  }
  ~RunCommands() override { server_->Shutdown(absl::ToChronoTime(SystemClock().Now())); }

  std::vector<std::string> Argv(const std::vector<std::string>& arguments) const {
    std::vector<std::string> argv = {Program(), "--context", folder_.File("context")};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return argv;
  }
  testing::ProgramResult Musterctl(const std::vector<std::string>& arguments) const {
    return testing::RunProgram(Argv(arguments));
  }

  static std::string Program();  // of the build that the test belongs to

  testing::TempFolder folder_;
  RunPlane plane_;

 private:
  // NAME.pem and NAME.key.
  void Certify(const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> argv = {"openssl",
                                     "req",
                                     "-x509",
                                     "-newkey",
                                     "ec",
                                     "-pkeyopt",
                                     "ec_paramgen_curve:P-256",
                                     "-nodes",
                                     "-days",
                                     "2",
                                     "-subj",
                                     "/CN=" + name,
                                     "-keyout",
                                     folder_.File(name + ".key"),
                                     "-out",
                                     folder_.File(name + ".pem")};
    argv.insert(argv.end(), more.begin(), more.end());
    const auto made = testing::RunProgram(argv);
    EXPECT_EQ(made.exit_code, 0) << made.err;
  }
  std::string Read(const std::string& name) const {
    return ReadFile(folder_.File(name)).value_or("");
  }

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster::ctl
