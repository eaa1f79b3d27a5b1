#include "agent/tasks/backup/filling.h"

#include <algorithm>
#include <utility>

#include "agent/tasks/backup/workspace.h"

namespace muster::agent::backup {

v1::RunProgress Amount(uint64_t done, uint64_t total, std::string text) {
  v1::RunProgress progress;
  progress.set_done(done);
  progress.set_total(std::max(done, total));
  progress.set_unit("B");
  progress.set_text(std::move(text));
  return progress;
}

std::function<Status()> TellFilling(TaskContext& context, std::string folder, uint64_t expected,
                                    std::string text, std::function<Status()> then) {
  return [&context, folder = std::move(folder), expected, text = std::move(text),
          then = std::move(then), looked = context.clock().Uptime()]() mutable -> Status {
    if (context.clock().Uptime() - looked < absl::Seconds(1)) return OkStatus();
    looked = context.clock().Uptime();
    context.Progress(Amount(FolderBytes(folder), expected, text));
    return then ? then() : OkStatus();
  };
}

}  // namespace muster::agent::backup
