#include "agent/tasks/backup/restic.h"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

#include "agent/probes/probe.h"
#include "agent/probes/resolve.h"
#include "agent/tasks/backup/repository_files.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

using nlohmann::json;

constexpr char kRestic[] = "/usr/bin/restic";
// For what hardly takes longer than a lock: one that removes packs meanwhile fails it, and no more.
constexpr char kUnlocked[] = "--no-lock";
constexpr size_t kMostWords = 200;  // of restic's, in a reason
constexpr char kNoSpace[] = "no space left on device";
// Of a snapshot that it then leaves out, as if there were none.
constexpr char kIgnored[] = "could not load snapshot";

// Tags of our snapshots: this word, and what made them.
constexpr std::string_view kOurTag = "muster";
constexpr std::string_view kJobTag = "job=";
constexpr std::string_view kRunTag = "run=";
constexpr std::string_view kEngineTag = "engine=";

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// What restic says of bytes that are not those that were stored, or that are gone.
bool IsDamage(std::string_view line) {
  for (const std::string_view mark :
       {"ciphertext verification failed", "decrypting blob", "not found in repository",
        "not found in index", "wrong hash", "invalid data returned", "hash mismatch",
        "trying to decrypt invalid data", "Unmarshal: ", kIgnored}) {
    if (Has(line, mark)) return true;
  }
  return Has(line, "no such file") && Has(line, "<data/");
}

// What services that speak S3 say of who asks, as restic repeats it.
bool IsRefusal(std::string_view text) {
  for (const std::string_view mark : {"Access Key Id", "Access Denied", "AccessDenied",
                                      "request signature we calculated does not match"}) {
    if (Has(text, mark)) return true;
  }
  return false;
}

// The line that says so; restic goes on with a question.
std::string WhatIsFatal(const ToolEnd& end) {
  constexpr std::string_view kFatal = "Fatal: ";
  for (const std::string_view line : Split(end.err, '\n')) {
    if (line.starts_with(kFatal)) return OneLine(line.substr(kFatal.size()));
  }
  return OneLine(end.last_words);
}

// A pack that ends too early; over a network that is a broken connection as well.
bool IsCutPack(std::string_view line) { return Has(line, "<data/") && Has(line, "EOF"); }

json Parse(std::string_view text) {
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

uint64_t Figure(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

std::string TextOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::vector<std::string> Texts(const json& object, const char* key) {
  std::vector<std::string> texts;
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array()) return texts;
  for (const json& one : *list)
    if (one.is_string()) texts.push_back(one.get<std::string>());
  return texts;
}

Repository::Listed ReadListed(const json& snapshot) {
  Repository::Listed listed{.id = TextOf(snapshot, "id"), .taken_at = absl::UnixEpoch()};
  if (const auto time = ParseTime(TextOf(snapshot, "time")); time.ok()) listed.taken_at = *time;
  listed.paths = Texts(snapshot, "paths");
  for (const std::string& tag : Texts(snapshot, "tags")) {
    if (tag == kOurTag) listed.of_muster = true;
    if (tag.starts_with(kJobTag)) listed.job = tag.substr(kJobTag.size());
    if (tag.starts_with(kRunTag)) listed.run = tag.substr(kRunTag.size());
    if (tag.starts_with(kEngineTag)) {
      v1::BackupEngine_Parse(tag.substr(kEngineTag.size()), &listed.engine);
    }
  }
  return listed;
}

// The lines that restic prints while it backs up: how far it is, what it could not read, and how
// it ended.
class BackupLines {
 public:
  BackupLines(TaskContext& context, uint64_t total) : context_(context), total_(total) {}

  void Take(std::string_view bytes) {
    line_ += bytes;
    size_t end = 0;
    while ((end = line_.find('\n')) != std::string::npos) {
      TakeLine(line_.substr(0, end));
      line_.erase(0, end + 1);
    }
  }
  const json& summary() const { return summary_; }
  // How many files restic could not read, and the first of them.
  std::string unread() const {
    if (errors_ == 0) return "";
    return fmt::format("{} files could not be read, the first one {}", errors_, first_error_);
  }

 private:
  void TakeLine(const std::string& line) {
    const json object = Parse(line);
    if (!object.is_object()) return;
    const std::string type = TextOf(object, "message_type");
    if (type == "summary") summary_ = object;
    if (type == "status") Tell(object);
    if (type == "error" && ++errors_ == 1) first_error_ = OneLine(TextOf(object, "item"));
  }

  void Tell(const json& status) {
    v1::RunProgress progress;
    progress.set_done(Figure(status, "bytes_done"));
    progress.set_total(std::max(total_, Figure(status, "total_bytes")));
    progress.set_unit("B");
    progress.set_text("into the repository");
    context_.Progress(std::move(progress));
  }

  TaskContext& context_;
  const uint64_t total_;
  std::string line_;
  json summary_;
  uint64_t errors_ = 0;
  std::string first_error_;
};

// HOST and port of s3:https://HOST[:PORT]/…
StatusOr<HostPort> HostOf(const std::string& url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos) return InvalidArgument("{} is no URL of a repository", url);
  const std::string rest = url.substr(scheme + 3);
  const std::string host = rest.substr(0, rest.find('/'));
  if (host.find('@') != std::string::npos) {
    return InvalidArgument("a repository's URL must not hold a name or a password");
  }
  if (StatusOr<HostPort> with_port = ParseHostPort(host); with_port.ok()) return with_port;
  const bool tls = url.substr(0, scheme).ends_with("https");
  return HostPort{.host = host, .port = static_cast<uint16_t>(tls ? 443 : 80)};
}

}  // namespace

Status Repository::Check(const v1::BackupRepository& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(FindProgram("restic", "restic").status());
  MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.password().secret()));
  if (spec.has_path()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.path()));
  if (spec.has_url()) MUSTER_RETURN_IF_ERROR(HostOf(spec.url()).status());
  if (!spec.has_path() && !spec.has_url()) {
    return InvalidArgument("a repository needs a path or a url");
  }
  for (const std::string* file : {&spec.credentials_file(), &spec.ca_file()})
    if (!file->empty()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(*file));
  return OkStatus();
}

Repository::Repository(const v1::BackupRepository& spec, const Policy& policy, std::string cache)
    : spec_(spec),
      policy_(policy),
      cache_(std::move(cache)),
      place_(spec.has_path() ? spec.path() : spec.url()) {}

Status Repository::AllowAddress(TaskContext& context) const {
  if (spec_.has_path()) return policy_.AllowPath(spec_.path());
  MUSTER_ASSIGN_OR_RETURN(const HostPort target, HostOf(spec_.url()));
  const ProbeContext within{context.clock(), context.clock().Uptime() + absl::Seconds(20)};
  MUSTER_ASSIGN_OR_RETURN(const Address address, Resolve(target.host, target.port, within));
  return policy_.AllowAddress(address.get());
}

StatusOr<ToolEnd> Repository::RunOnce(TaskContext& context, const Call& call) {
  MUSTER_ASSIGN_OR_RETURN(const Secret password, policy_.ReadSecret(spec_.password().secret()));
  MUSTER_ASSIGN_OR_RETURN(const exec::Fd in, MemoryFile(password.Reveal()));
  ProgramRequest request;
  request.argv = {kRestic, "--repo", place_, "--password-file", kStdin, "--json"};
  if (spec_.has_path()) request.argv.emplace_back("--no-cache");
  if (!spec_.has_path()) request.argv.insert(request.argv.end(), {"--cache-dir", cache_});
  if (!spec_.ca_file().empty()) {
    MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.ca_file()));
    request.argv.insert(request.argv.end(), {"--cacert", spec_.ca_file()});
  }
  request.argv.insert(request.argv.end(), call.arguments.begin(), call.arguments.end());
  request.environment["RESTIC_PROGRESS_FPS"] = "1";
  if (!spec_.credentials_file().empty()) {
    MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.credentials_file()));
    request.environment["AWS_SHARED_CREDENTIALS_FILE"] = spec_.credentials_file();
  }
  request.directory = call.directory;
  request.in = in.get();
  request.on_out = call.on_out;
  request.on_err = call.on_err;
  request.watch = call.watch;
  return RunTool(context, std::move(request));
}

// A lock whose process is gone stands in the way of nobody: restic itself says which ones are
// stale, and removes no others.
StatusOr<ToolEnd> Repository::Run(TaskContext& context, const Call& call) {
  MUSTER_ASSIGN_OR_RETURN(ToolEnd end, RunOnce(context, call));
  if (end.exit_code == 0 || !Has(end.err, "already locked")) return end;
  context.Note("the repository is locked; stale locks are removed, and it is tried once more");
  MUSTER_RETURN_IF_ERROR(RunOnce(context, {.arguments = {"unlock"}}).status());
  return RunOnce(context, call);
}

StatusOr<ToolEnd> Repository::RunWell(TaskContext& context, const Call& call) {
  MUSTER_ASSIGN_OR_RETURN(ToolEnd end, Run(context, call));
  if (end.exit_code != 0) return Explain(end);
  return end;
}

Status Repository::Damaged(std::string_view how) const {
  return DataLoss(
      "{} is damaged: {}. Take a new backup into a new repository now; restic check --read-data "
      "says what of this one is left",
      place_, Truncate(how, kMostWords));
}

// Of a folder muster sees the files itself.
Status Repository::CheckFiles() const {
  if (!spec_.has_path()) return OkStatus();
  const Status found = LookForDamage(spec_.path());
  return found.ok() ? found : Damaged(Message(found));
}

Status Repository::Explain(const ToolEnd& end) const {
  if (Has(end.err, "already locked")) {
    return Unavailable(
        "{} is locked by somebody who is at work, or by a process of another host "
        "that died less than half an hour ago (restic list locks; restic unlock "
        "removes what is stale)",
        place_);
  }
  if (Has(end.err, kNoSpace)) {
    return ResourceExhausted("the disk of {} is full: make room, or keep fewer backups", place_);
  }
  if (!spec_.has_path() && IsRefusal(end.err)) {
    return PermissionDenied(
        "{} does not let this host in: see to repository.credentialsFile, and to what its key may "
        "do. {}",
        place_, Truncate(WhatIsFatal(end), kMostWords));
  }
  if (!spec_.has_path() && Has(end.err, "x509: ")) {
    return Unavailable(
        "the certificate of {} is not trusted; name the file of its authority in "
        "repository.caFile. {}",
        place_, Truncate(WhatIsFatal(end), kMostWords));
  }
  MUSTER_RETURN_IF_ERROR(CheckFiles());
  if (Has(end.err, "wrong password or no key found")) {
    return PermissionDenied(
        "the password of {} is wrong: it must be what the repository was made "
        "with",
        place_);
  }
  for (const std::string_view line : Split(end.err, '\n')) {
    if (IsDamage(line) || (spec_.has_path() && IsCutPack(line))) return Damaged(OneLine(line));
  }
  ToolEnd said = end;
  said.last_words = WhatIsFatal(end);
  return ToolFailed({.argv = {kRestic}}, said);
}

Status Repository::Open(TaskContext& context) {
  MUSTER_RETURN_IF_ERROR(AllowAddress(context));
  if (!cache_.empty() && !spec_.has_path()) MUSTER_RETURN_IF_ERROR(MakeFolder(cache_));
  const StatusOr<ToolEnd> version =
      RunToolWell(context, {.argv = {kRestic, "version"}, .file = {}});
  MUSTER_RETURN_IF_ERROR(version.status());
  version_ = Split(version->out, '\n')[0].substr(0, version->out.find(" compiled"));
  const Status read = ReadConfig(context);
  if (!absl::IsNotFound(read)) return read;
  if (!spec_.create()) return read;
  MUSTER_RETURN_IF_ERROR(Make(context));
  return ReadConfig(context);
}

Status Repository::Make(TaskContext& context) {
  if (spec_.has_path()) MUSTER_RETURN_IF_ERROR(CheckNotBegun(spec_.path()));
  MUSTER_RETURN_IF_ERROR(RunWell(context, {.arguments = {"init"}}).status());
  context.Note(fmt::format("made the repository {}", place_));
  return OkStatus();
}

Status Repository::ReadConfig(TaskContext& context) {
  Call call;
  call.arguments = {"cat", "config", kUnlocked};
  // That there is none yet may be as it should.
  call.on_err = [](std::string_view) {};
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, Run(context, call));
  if (end.exit_code != 0 && Has(end.err, "Is there a repository at the following location?")) {
    // Of a folder that is there and cannot be read as well, and of a key that a service does not
    // know.
    const bool none = Has(end.err, "no such file") || Has(end.err, "does not exist");
    if (!none || IsRefusal(end.err)) return Explain(end);
    // Not a new one over what is left of an old one.
    MUSTER_RETURN_IF_ERROR(CheckFiles());
    return NotFound(
        "there is no repository at {}: {} If there is to be a new one, set repository.create: true",
        place_, spec_.has_path() ? "is its disk mounted?" : "are bucket and folder right?");
  }
  if (end.exit_code != 0) return Explain(end);
  id_ = TextOf(Parse(end.out), "id");
  if (id_.size() == 64) return OkStatus();
  return DataLoss("the configuration of {} cannot be read", place_);
}

StatusOr<Repository::Listed> Repository::Find(TaskContext& context, const std::string& snapshot) {
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end,
                          RunWell(context, {.arguments = {"snapshots", snapshot, kUnlocked}}));
  const json list = Parse(end.out);
  if (!list.is_array() || list.size() != 1 || !TextOf(list[0], "id").starts_with(snapshot)) {
    if (Has(end.err, kIgnored)) return Damaged(end.last_words);
    return NotFound(
        "{} has no snapshot {}: it was removed, or its file was lost (restic snapshots lists those "
        "that are there)",
        place_, snapshot);
  }
  Listed listed = ReadListed(list[0]);
  if (listed.id.size() == 64) return listed;
  return DataLoss("restic names the snapshot {} with no id of 64 digits", snapshot);
}

StatusOr<std::vector<Repository::Listed>> Repository::All(TaskContext& context) {
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, RunWell(context, {.arguments = {"snapshots"}}));
  const json list = Parse(end.out);
  if (!list.is_array()) return DataLoss("the snapshots of {} cannot be listed", place_);
  if (Has(end.err, kIgnored)) context.Note("a snapshot cannot be read: " + end.last_words);
  std::vector<Listed> all;
  for (const json& snapshot : list) all.push_back(ReadListed(snapshot));
  std::stable_sort(all.begin(), all.end(),
                   [](const Listed& a, const Listed& b) { return a.taken_at < b.taken_at; });
  return all;
}

StatusOr<std::set<std::string>> Repository::AllIds(TaskContext& context) {
  // By their names alone: `snapshots` leaves those out that it cannot read.
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end,
                          RunWell(context, {.arguments = {"list", "snapshots"}}));
  std::set<std::string> ids;
  for (std::string_view line : Split(end.out, '\n')) {
    line = Trim(line);
    if (!line.empty()) ids.emplace(line);
  }
  return ids;
}

StatusOr<uint64_t> Repository::Statistic(TaskContext& context, const std::string& snapshot,
                                         const char* mode) {
  MUSTER_ASSIGN_OR_RETURN(
      const ToolEnd end,
      RunWell(context, {.arguments = {"stats", "--mode", mode, snapshot, kUnlocked}}));
  const json stats = Parse(end.out);
  return stats.is_object() ? Figure(stats, "total_size") : 0;
}

StatusOr<uint64_t> Repository::StoredBytes(TaskContext& context, const std::string& snapshot) {
  return Statistic(context, snapshot, "raw-data");
}

StatusOr<uint64_t> Repository::RestoredBytes(TaskContext& context, const std::string& snapshot) {
  return Statistic(context, snapshot, "restore-size");
}

StatusOr<Snapshot> Repository::Backup(TaskContext& context, const ResticSource& source) {
  BackupLines lines(context, source.bytes);
  Call call;
  call.arguments = {"backup",
                    "--tag",
                    std::string(kOurTag),
                    "--tag",
                    std::string(kJobTag) + context.job(),
                    "--tag",
                    std::string(kRunTag) + context.run_id(),
                    "--tag",
                    std::string(kEngineTag) + v1::BackupEngine_Name(source.engine)};
  for (const std::string& pattern : source.exclude)
    call.arguments.push_back("--exclude=" + pattern);
  call.arguments.emplace_back("--");
  call.arguments.insert(call.arguments.end(), source.paths.begin(), source.paths.end());
  call.directory = source.directory;
  call.on_out = [&](std::string_view bytes) { lines.Take(bytes); };
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, Run(context, call));
  // 3: a snapshot was made, and some files could not be read.
  if (end.exit_code != 0 && end.exit_code != 3) return Explain(end);
  if (!lines.summary().is_object()) {
    return Unavailable("restic ended with exit code {} and did not say what it has done",
                       end.exit_code);
  }
  Snapshot snapshot;
  snapshot.files = Figure(lines.summary(), "total_files_processed");
  snapshot.source_bytes = Figure(lines.summary(), "total_bytes_processed");
  if (end.exit_code == 3) {
    snapshot.unread = lines.unread().empty() ? end.last_words : lines.unread();
  }
  MUSTER_ASSIGN_OR_RETURN(const Listed listed,
                          Find(context, TextOf(lines.summary(), "snapshot_id")));
  snapshot.id = listed.id;
  MUSTER_ASSIGN_OR_RETURN(snapshot.stored_bytes, StoredBytes(context, snapshot.id));
  return snapshot;
}

Status Repository::Dump(TaskContext& context, const std::string& snapshot,
                        const std::function<Status(std::string_view)>& take) {
  Status taken;
  Call call;
  call.arguments = {"dump", "--archive", "tar", snapshot, "/"};
  call.on_out = [&](std::string_view bytes) { taken.Update(take(bytes)); };
  call.watch = [&] { return taken; };
  MUSTER_RETURN_IF_ERROR(RunWell(context, call).status());
  return taken;
}

StatusOr<std::string> Repository::ReadSmall(TaskContext& context, const std::string& snapshot,
                                            const std::string& path) {
  MUSTER_ASSIGN_OR_RETURN(ToolEnd end,
                          RunWell(context, {.arguments = {"dump", snapshot, "/" + path, kUnlocked}}));
  return std::move(end.out);
}

Status Repository::Restore(TaskContext& context, const std::string& snapshot,
                           const std::string& target, const std::function<Status()>& watch) {
  Call call;
  call.arguments = {"restore", snapshot, "--target", target};
  call.watch = watch;
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, Run(context, call));
  if (end.exit_code == 0) return OkStatus();
  // That is the target's disk, not the repository's.
  if (Has(end.err, kNoSpace)) {
    return ResourceExhausted("the disk of {} is full: make room, or choose another", target);
  }
  return Explain(end);
}

Status Repository::Forget(TaskContext& context, const std::vector<std::string>& snapshots) {
  Call call;
  call.arguments = {"forget"};
  call.arguments.insert(call.arguments.end(), snapshots.begin(), snapshots.end());
  return RunWell(context, call).status();
}

Status Repository::Prune(TaskContext& context) {
  return RunWell(context, {.arguments = {"prune"}}).status();
}

}  // namespace muster::agent::backup
