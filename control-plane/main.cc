// muster-control: the control plane. `init` makes one, `run` serves.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>

#include "control-plane/app.h"
#include "control-plane/config.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/net/tls.h"
#include "lib/program/program.h"

// jemalloc's: a thread of its own gives back what is not used any more, also when nothing goes on.
extern "C" const char* const malloc_conf;  // NOLINT: the name is its
const char* const malloc_conf = "background_thread:true";

namespace {

using muster::Status;
using muster::control::Config;

constexpr int kUsage = 2;

int Report(const Status& status) {
  if (!status.ok()) std::cerr << "error: " << muster::Message(status) << "\n";
  return muster::ExitCode(status);
}

// Flags win over the file, the file over what init wrote, that over the defaults.
Status ReadFiles(const std::string& file, Config& config) {
  for (const std::string& path : {config.data + "/control.yaml", file}) {
    if (path.empty() || (path != file && !muster::FileExists(path))) continue;
    MUSTER_ASSIGN_OR_RETURN(const std::string yaml, muster::ReadFile(path));
    MUSTER_RETURN_IF_ERROR(ReadConfig(yaml, path, config));
  }
  return muster::OkStatus();
}

struct Flags {
  std::string data, store, redis, config, listen, enroll_listen, http_listen, log_level;
  std::vector<std::string> advertise;
};

Status Merge(const Flags& flags, Config& config) {
  config.data = flags.data;
  MUSTER_RETURN_IF_ERROR(ReadFiles(flags.config, config));
  const auto take = [](const std::string& flag, std::string& into) {
    if (!flag.empty()) into = flag;
  };
  take(flags.store, config.store);
  if (!flags.redis.empty()) {
    config.redis = flags.redis;
    config.redis_from = muster::redis::UrlFrom::kCommandLine;
  }
  take(flags.listen, config.listen);
  take(flags.enroll_listen, config.enroll_listen);
  take(flags.http_listen, config.http_listen);
  for (const std::string& address : flags.advertise) {
    MUSTER_RETURN_IF_ERROR(muster::control::CheckAdvertised(address));
  }
  if (!flags.advertise.empty()) config.advertise = flags.advertise;
  if (!flags.log_level.empty()) {
    MUSTER_ASSIGN_OR_RETURN(config.log_level, muster::ParseLogLevel(flags.log_level));
  }
  return muster::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  muster::LeaveLockOrderToTests();
  muster::net::PrepareTls();
  CLI::App app{"muster-control: the control plane of muster"};
  app.require_subcommand(1);
  app.set_version_flag("--version", MUSTER_VERSION);
  Flags flags;

  CLI::App* init =
      app.add_subcommand("init", "make a control plane: authority, cluster key, admin.context");
  init->add_option("--data", flags.data, "folder for keys and the embedded store")->required();
  init->add_option("--store", flags.store,
                   "sqlite:PATH or postgresql://…; default is muster.db in the data folder");
  init->add_option("--advertise", flags.advertise,
                   "HOST[:PORT] that agents and operators dial; repeatable");

  CLI::App* run = app.add_subcommand("run", "serve in the foreground until SIGTERM");
  run->add_option("--data", flags.data, "folder that init made")->required();
  run->add_option("--store", flags.store,
                  "sqlite:PATH or postgresql://…; default is muster.db in the data folder");
  run->add_option(
      "--redis", flags.redis,
      "redis://, rediss://HOST:PORT, redis+sentinel://HOST,HOST/MASTER or redis+unix:PATH:\n"
      "replicas tell one another that there is something new; may be lost at any time");
  run->add_option("--config", flags.config,
                  "settings as YAML; see docs/reference/control-config.md");
  run->add_option("--listen", flags.listen,
                  "agents and operators, mutual TLS (default 0.0.0.0:7443)");
  run->add_option("--enroll-listen", flags.enroll_listen,
                  "enrolment (default 0.0.0.0:7444), or off");
  run->add_option("--http-listen", flags.http_listen,
                  "metrics and health (default 127.0.0.1:7480), or off");
  run->add_option("--advertise", flags.advertise, "HOST[:PORT] that agents are told; repeatable");
  run->add_option("--log-level", flags.log_level, "debug, info (default), warning or error");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  Config config;
  if (const Status merged = Merge(flags, config); !merged.ok()) return Report(merged);
  muster::StartLog("muster-control", config.log_level);
  if (init->parsed()) {
    const auto told = muster::control::Init(config);
    if (told.ok()) std::cout << *told;
    return Report(told.status());
  }
  return Report(muster::control::Run(config));
}
