// A program of the host, and its exit code.
#include <algorithm>
#include <cstring>

#include "agent/tasks/tasks.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr size_t kMostArgvBytes = 256 << 10;
constexpr size_t kMostEnvironmentBytes = 64 << 10;

bool IsSuccess(const v1::CommandTask& spec, int exit_code) {
  if (spec.success().empty()) return exit_code == 0;
  return std::any_of(spec.success().begin(), spec.success().end(),
                     [&](uint32_t code) { return static_cast<int64_t>(code) == exit_code; });
}

class CommandTask final : public Task {
 public:
  CommandTask(v1::CommandTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return OneLine(fmt::format("{}", fmt::join(spec_.argv(), " ")));
  }

  TaskEnd Run(TaskContext& context) override {
    ProgramRequest request;
    request.argv.assign(spec_.argv().begin(), spec_.argv().end());
    request.environment.insert(spec_.environment().begin(), spec_.environment().end());
    if (!spec_.directory().empty()) request.directory = spec_.directory();
    // Links may have moved since the task was made.
    StatusOr<std::string> file = policy_.AllowCommand(spec_.argv(0));
    if (!file.ok()) return NeverBegan(file.status());
    request.file = *std::move(file);
    const StatusOr<ProgramEnd> end = context.RunProgram(request);
    if (!end.ok()) return NeverBegan(end.status());
    TaskEnd result = end->asked ? context.Ended() : Judge(*end);
    result.exit_code = end->exit_code;
    result.signal = end->signal;
    return result;
  }

 private:
  static TaskEnd NeverBegan(const Status& why) {
    return {v1::RUN_OUTCOME_NEVER_BEGAN, std::string(Message(why)), -1, 0, {}};
  }

  TaskEnd Judge(const ProgramEnd& end) const {
    TaskEnd result;
    if (end.signal != 0) {
      result.reason = fmt::format("ended by signal {} ({})", end.signal, strsignal(end.signal));
      return result;
    }
    result.reason = fmt::format("exit code {}", end.exit_code);
    if (IsSuccess(spec_, end.exit_code)) result.outcome = v1::RUN_OUTCOME_SUCCEEDED;
    return result;
  }

  const v1::CommandTask spec_;
  const Policy policy_;
};

Status CheckText(std::string_view text, std::string_view what) {
  if (text.find('\0') == std::string_view::npos) return OkStatus();
  return InvalidArgument("{} must not hold a zero byte", what);
}

Status CheckSpec(const v1::CommandTask& spec) {
  if (spec.argv().empty()) return InvalidArgument("a command job needs argv");
  size_t bytes = 0;
  for (const std::string& argument : spec.argv()) {
    MUSTER_RETURN_IF_ERROR(CheckText(argument, "an argument of a command"));
    bytes += argument.size() + 1;
  }
  if (bytes > kMostArgvBytes) {
    return InvalidArgument("the arguments of a command are more than {} bytes", kMostArgvBytes);
  }
  if (!spec.directory().empty() && !spec.directory().starts_with('/')) {
    return InvalidArgument("the directory {} of a command is no absolute path", spec.directory());
  }
  return CheckText(spec.directory(), "the directory of a command");
}

Status CheckEnvironment(const v1::CommandTask& spec, const Policy& policy) {
  size_t bytes = 0;
  for (const auto& [name, value] : spec.environment()) {
    if (name.starts_with("MUSTER_")) {
      return InvalidArgument("{} is a variable of muster's own: name it otherwise", name);
    }
    MUSTER_RETURN_IF_ERROR(policy.AllowVariable(name));
    MUSTER_RETURN_IF_ERROR(CheckText(value, "the environment of a command"));
    bytes += name.size() + value.size() + 2;
  }
  if (bytes <= kMostEnvironmentBytes) return OkStatus();
  return InvalidArgument("the environment of a command is more than {} bytes",
                         kMostEnvironmentBytes);
}

}  // namespace

TaskOr MakeCommandTask(const v1::CommandTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(CheckSpec(spec));
  MUSTER_RETURN_IF_ERROR(policy.AllowCommand(spec.argv(0)).status());
  MUSTER_RETURN_IF_ERROR(CheckEnvironment(spec, policy));
  return std::make_unique<CommandTask>(spec, policy);
}

}  // namespace muster::agent
