// What a run tells while it fills a folder or reads a stream.
#pragma once

#include <functional>
#include <string>

#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/record.pb.h"

namespace muster::agent::backup {

// Bytes; `total` is never less than what is done.
v1::RunProgress Amount(uint64_t done, uint64_t total, std::string text);

// A watch (ProgramRequest) over what fills the folder: once a second it tells how many bytes are
// there, and then asks `then`, whose error ends the program. The context must outlive it.
std::function<Status()> TellFilling(TaskContext& context, std::string folder, uint64_t expected,
                                    std::string text, std::function<Status()> then);

}  // namespace muster::agent::backup
