#include "agent/tasks/backup/throw_away.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <pwd.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/tasks/backup/programs.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr absl::Duration kEndWithin = absl::Seconds(5);
constexpr absl::Duration kPause = absl::Milliseconds(50);

}  // namespace

StatusOr<ServerUser> ServerUser::Find(const std::string& name, const char* field) {
  ServerUser user;
  if (geteuid() != 0) return user;
  std::vector<char> buffer(16 << 10);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return NotFound(
        "PostgreSQL, Redis and pgBackRest do not run as root here, and there is no user {} on this "
        "host: set {}",
        name, field);
  }
  if (found->pw_uid == 0) return InvalidArgument("{} must not be root", field);
  MUSTER_RETURN_IF_ERROR(FindProgram("setpriv", "util-linux").status());
  user.other_ = true;
  user.user_ = found->pw_uid;
  user.group_ = found->pw_gid;
  return user;
}

Status ServerUser::Own(const std::string& folder) const {
  if (!other_) return OkStatus();
  std::error_code error;
  if (lchown(folder.c_str(), user_, group_) != 0) {
    return Unavailable("chown {}: {}", folder, std::strerror(errno));
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (lchown(entry.path().c_str(), user_, group_) != 0) {
      return Unavailable("chown {}: {}", entry.path().native(), std::strerror(errno));
    }
  }
  return OkStatus();
}

std::vector<std::string> ServerUser::As(std::vector<std::string> argv) const {
  if (!other_) return argv;
  std::vector<std::string> all = {"/usr/bin/setpriv", fmt::format("--reuid={}", user_),
                                  fmt::format("--regid={}", group_), "--init-groups",
                                  "--no-new-privs"};
  all.insert(all.end(), argv.begin(), argv.end());
  return all;
}

StatusOr<std::string> MakeServerFolder(const Workspace& workspace, const ServerUser& user) {
  if (user.is_other()) MUSTER_RETURN_IF_ERROR(workspace.OpenForOthers());
  MUSTER_ASSIGN_OR_RETURN(std::string folder, workspace.MakeSub("server"));
  MUSTER_RETURN_IF_ERROR(user.Own(folder));
  return folder;
}

Status CheckSocket(const std::string& path) {
  if (path.size() < sizeof(sockaddr_un::sun_path)) return OkStatus();
  return InvalidArgument(
      "the path {} is too long for a socket: choose a staging folder with a "
      "shorter one",
      path);
}

exec::Confinement ServerConfinement(const ServerUser& user, const std::string& program,
                                    const std::string& folder) {
  // Where another user runs it, a program before it sees to that.
  return {.writes = {folder}, .programs = {program, user.As({program})[0]}};
}

exec::Confinement ClientConfinement(const std::string& program) {
  return {.programs = {program}, .connects = true};
}

void NoteMissingConfinement(TaskContext& context) {
  if (exec::CanConfineFiles()) return;
  context.Note(
      "this kernel has no Landlock: what the backup brings along is kept from the network, but not "
      "from running programs and writing files as the user that restores it");
}

ThrowAway::ThrowAway(TaskContext& context, std::string log, std::unique_ptr<ProgramBeside> program,
                     int end_with)
    : context_(context), log_(std::move(log)), program_(std::move(program)), end_with_(end_with) {}

StatusOr<std::unique_ptr<ThrowAway>> ThrowAway::Start(TaskContext& context,
                                                      const std::string& folder,
                                                      const ServerUser& user,
                                                      const std::vector<std::string>& argv,
                                                      int end_with) {
  const std::string log = folder + "/log";
  const exec::Fd out(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!out.open()) return Unavailable("cannot write {}: {}", log, std::strerror(errno));
  ProgramRequest request;
  request.argv = user.As(argv);
  request.out = out.get();
  request.err = out.get();
  request.confinement = ServerConfinement(user, argv[0], folder);
  NoteMissingConfinement(context);
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<ProgramBeside> program, context.StartBeside(request));
  return std::unique_ptr<ThrowAway>(new ThrowAway(context, log, std::move(program), end_with));
}

ThrowAway::~ThrowAway() {
  const bool hurry = context_.demand() == Demand::kKill;
  (void)program_->End(end_with_, hurry ? absl::ZeroDuration() : kEndWithin);
}

std::string ThrowAway::LastWords() const {
  const std::string log = ReadFile(log_).value_or("");
  const std::string_view text = Trim(log);
  return OneLine(Truncate(text.substr(text.size() - std::min<size_t>(text.size(), 300)), 300));
}

Status ThrowAway::WaitUntil(const std::function<Status()>& answers, absl::Duration within) {
  const absl::Duration until = context_.clock().Uptime() + within;
  while (true) {
    const Status answer = answers();
    if (answer.ok()) return answer;
    if (program_->HasEnded()) {
      return Unavailable("the throw-away server ended: {}", LastWords());
    }
    if (context_.clock().Uptime() > until) {
      return DeadlineExceeded("the throw-away server does not answer: {}; it says: {}",
                              Message(answer), LastWords());
    }
    if (context_.WaitForDemand(kPause) != Demand::kNone) return Aborted("the run is to end");
  }
}

}  // namespace muster::agent::backup
