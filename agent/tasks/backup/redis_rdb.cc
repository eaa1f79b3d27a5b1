// Redis's own snapshot, as it sends it to a replica; looked through by redis-check-rdb, and loaded
// into a throw-away server to prove it.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/redis.h"
#include "agent/tasks/backup/throw_away.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

constexpr char kFile[] = "dump.rdb";
constexpr char kTools[] = "redis-tools";

std::string Fact(const RedisFacts& facts, std::string_view name) {
  const auto found = facts.find(name);
  return found == facts.end() ? "" : found->second;
}

// "[info] 3 keys read"
std::optional<uint64_t> Counted(std::string_view output, std::string_view what) {
  for (std::string_view line : Split(output, '\n')) {
    line = Trim(line);
    if (!line.starts_with("[info] ") || !line.ends_with(what)) continue;
    return LeadingNumber(line.substr(std::string_view("[info] ").size()));
  }
  return std::nullopt;
}

class RedisRdb final : public Engine {
 public:
  RedisRdb(v1::RedisSource spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override { return "Redis at " + spec_.address(); }

  StatusOr<Need> Plan(TaskContext& context) override {
    MUSTER_ASSIGN_OR_RETURN(checker_, FindProgram("redis-check-rdb", kTools));
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<RedisLink> link, Open(context));
    MUSTER_ASSIGN_OR_RETURN(facts_, link->Info());
    // Its file is smaller than what it takes in memory.
    const uint64_t bytes = LeadingNumber(Fact(facts_, "used_memory"));
    return Need{bytes, bytes};
  }

  Status Produce(TaskContext& context, const Workspace& workspace, const std::string& folder,
                 v1::BackupManifest& manifest) override {
    const std::string path = folder + "/" + kFile;
    MUSTER_RETURN_IF_ERROR(context.Step("takes Redis's snapshot into " + path));
    *manifest.mutable_taken_at() = wire::ToProto(context.clock().Now());
    MUSTER_RETURN_IF_ERROR(Receive(context, workspace, path));
    MUSTER_RETURN_IF_ERROR(Check(context, path, manifest));
    Tell(manifest);
    return CompareCounts(context, manifest);
  }

  ResticSource Source(const std::string& folder) const override {
    return {.directory = folder, .paths = {"."}, .exclude = {}};
  }

 private:
  StatusOr<std::unique_ptr<RedisLink>> Open(TaskContext& context) const {
    return RedisLink::Open(spec_.address(), spec_.auth().secret(), policy_, context);
  }

  Status Receive(TaskContext& context, const Workspace& workspace, const std::string& path) const {
    const exec::Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.open()) return Unavailable("cannot write {}: {}", path, std::strerror(errno));
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<RedisLink> link, Open(context));
    uint64_t done = 0;
    return link->Sync([&](std::string_view piece, uint64_t total) -> Status {
      if (done == 0) MUSTER_RETURN_IF_ERROR(workspace.NeedRoom(total, "Redis's snapshot"));
      MUSTER_RETURN_IF_ERROR(workspace.CheckReserve());
      while (!piece.empty()) {
        const ssize_t wrote = write(file.get(), piece.data(), piece.size());
        if (wrote <= 0) return Unavailable("cannot write {}: {}", path, std::strerror(errno));
        piece.remove_prefix(static_cast<size_t>(wrote));
        done += static_cast<uint64_t>(wrote);
      }
      v1::RunProgress progress;
      progress.set_done(done);
      progress.set_total(total);
      progress.set_unit("B");
      progress.set_text("receiving");
      context.Progress(std::move(progress));
      return OkStatus();
    });
  }

  Status Check(TaskContext& context, const std::string& path, v1::BackupManifest& manifest) const {
    ProgramRequest request;
    request.argv = {checker_, path};
    MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, RunTool(context, request));
    const std::optional<uint64_t> keys = Counted(end.out, " keys read");
    if (end.exit_code != 0 || !keys) {
      return DataLoss("redis-check-rdb finds the snapshot damaged (exit code {})", end.exit_code);
    }
    manifest.set_key_count(*keys);
    manifest.set_expiring_key_count(Counted(end.out, " expires").value_or(0));
    return OkStatus();
  }

  void Tell(v1::BackupManifest& manifest) const {
    manifest.set_engine(v1::BACKUP_ENGINE_REDIS_RDB);
    manifest.set_source(OneLine(What()));
    manifest.set_server_version(Fact(facts_, "redis_version"));
  }

  // The server goes on meanwhile, so the counts need not be the same; but a snapshot with less than
  // half of the keys is not of this server.
  Status CompareCounts(TaskContext& context, const v1::BackupManifest& manifest) const {
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<RedisLink> link, Open(context));
    MUSTER_ASSIGN_OR_RETURN(const RedisFacts after, link->Info());
    const KeyCounts first = CountKeys(facts_);
    const KeyCounts last = CountKeys(after);
    const uint64_t least = std::min(first.keys - std::min(first.keys, first.expiring),
                                    last.keys - std::min(last.keys, last.expiring));
    if (manifest.key_count() < least / 2) {
      return DataLoss("the snapshot holds {} keys, and Redis held {} before and {} after it",
                      manifest.key_count(), first.keys, last.keys);
    }
    context.Note(fmt::format("the snapshot holds {} keys; Redis held {} before and {} after it",
                             manifest.key_count(), first.keys, last.keys));
    return OkStatus();
  }

  const v1::RedisSource spec_;
  const Policy policy_;
  std::string checker_;
  RedisFacts facts_;
};

std::vector<std::string> ServerArgv(const std::string& program, const std::string& folder) {
  return {program,
          "--port",
          "0",
          "--unixsocket",
          folder + "/socket",
          "--unixsocketperm",
          "700",
          "--dir",
          folder,
          "--dbfilename",
          kFile,
          "--save",
          "",
          "--appendonly",
          "no",
          "--daemonize",
          "no",
          "--set-proc-title",
          "no"};
}

StatusOr<KeyCounts> LoadedKeys(TaskContext& context, const std::string& socket) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<RedisLink> link,
                          RedisLink::OpenSocket(socket, context));
  MUSTER_ASSIGN_OR_RETURN(const RedisFacts facts, link->Info());
  if (Fact(facts, "loading") != "0") return Unavailable("it still loads the snapshot");
  return CountKeys(facts);
}

}  // namespace

EngineOr MakeRedisRdb(const v1::RedisSource& spec, const Policy& policy) {
  if (spec.has_auth()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.auth().secret()));
  if (spec.address().starts_with("unix:")) {
    MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.address().substr(5)));
  }
  return std::make_unique<RedisRdb>(spec, policy);
}

Status ProveRedis(TaskContext& context, const Workspace& workspace, const ProveRequest& request) {
  if (request.verify.queries_size() > 0) {
    return InvalidArgument("verify.queries are for PostgreSQL: Redis is compared key by number");
  }
  MUSTER_RETURN_IF_ERROR(context.Step("restores the backup into a throw-away server"));
  MUSTER_ASSIGN_OR_RETURN(const std::string program, FindProgram("redis-server", "redis-server"));
  const std::string& name = request.verify.user();
  MUSTER_ASSIGN_OR_RETURN(const ServerUser user, ServerUser::Find(name.empty() ? "redis" : name));
  MUSTER_ASSIGN_OR_RETURN(const std::string folder, MakeServerFolder(workspace, user));
  MUSTER_RETURN_IF_ERROR(CheckSocket(folder + "/socket"));
  std::error_code error;
  std::filesystem::rename(request.folder + "/" + kFile, folder + "/" + kFile, error);
  if (error) return Unavailable("cannot move {}/{}: {}", request.folder, kFile, error.message());
  MUSTER_RETURN_IF_ERROR(user.Own(folder));
  MUSTER_ASSIGN_OR_RETURN(
      const std::unique_ptr<ThrowAway> server,
      ThrowAway::Start(context, folder, user, ServerArgv(program, folder), SIGKILL));
  KeyCounts loaded;
  MUSTER_RETURN_IF_ERROR(server->WaitUntil(
      [&]() -> Status {
        MUSTER_ASSIGN_OR_RETURN(loaded, LoadedKeys(context, folder + "/socket"));
        return OkStatus();
      },
      absl::Hours(1)));
  // Keys whose time has come are not loaded.
  const uint64_t most = request.manifest.key_count();
  const uint64_t least = most - std::min(most, request.manifest.expiring_key_count());
  if (loaded.keys >= least && loaded.keys <= most) return OkStatus();
  return DataLoss("the restored Redis holds {} keys, and the manifest {}, {} of which expire",
                  loaded.keys, most, request.manifest.expiring_key_count());
}

}  // namespace muster::agent::backup
