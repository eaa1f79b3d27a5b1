// Starting a run, whatever becomes of the connection, and what is said of it afterwards.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

#include <absl/time/time.h>

#include "ctl/commands/session.h"
#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

// --wait and --timeout of a command that starts a run.
struct WaitFlags {
  bool wait = false;
  std::string timeout;  // the longest wait; without --wait, for the answer
};
std::shared_ptr<WaitFlags> AddWaitFlags(CLI::App& command);
// Before the session opens: without --wait, --timeout is as everywhere.
void Take(const WaitFlags& wait, Flags& flags);

// Asks again for as long as --timeout where the connection broke. What is asked must carry a
// request id, so that one run is started and not two. Flags that are wrong start none.
Status AskForRun(Session& session, const WaitFlags& wait, const std::string& job,
                 const Session::Call& ask);

// Waits for the run if that is asked, prints it, and says what it does not say itself.
Status FinishRun(Session& session, v1::Run run, const WaitFlags& wait, int& exit_code);

}  // namespace muster::ctl
