// A command, run as the caller would have run it without us: as the same user, in the same
// environment, folder and limits, with the same stdin; what it writes comes out as it goes in.
// SIGTERM, SIGINT and SIGHUP are passed on to it and to what it began.
//
// One at a time in a process, which it takes signals of; by its main thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/exec/program.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

class HostCommand {
 public:
  // kReadToo: its output goes through pipes, and is looked at on its way. Where stdout and stderr
  // are the same file, as after 2>&1, both go through one and count as stdout.
  enum class Output { kPassOn, kReadToo };
  using Sink = std::function<void(v1::RunOutput::Stream, std::string_view)>;

  // 0, or the errno for which it cannot be started.
  int Start(const std::vector<std::string>& argv, Output output);
  // Until it has ended; then its status, as wait() gives it.
  int Wait(const Sink& sink);
  // Where something that it left behind goes on writing, a process stays that passes that on.
  void LeaveOutput();

 private:
  struct Way {
    v1::RunOutput::Stream stream;
    int to;
    exec::Fd from;  // closed at its end, or where nobody takes it any more
  };
  void OpenWays();
  void BeChild(const std::vector<std::string>& argv, int problem);
  bool HasEnded() const;
  // Whether there was anything.
  bool PassOn(Way& way, const Sink& sink);
  bool AnyOpen() const;

  pid_t pid_ = -1;
  bool own_group_ = true;
  bool one_way_ = false;
  exec::Fd ended_;                     // readable once it has
  std::vector<Way> ways_;              // out, and err where that is another
  std::vector<exec::Fd> childs_ends_;  // of these, until it is started
  std::vector<char> piece_ = std::vector<char>(64 << 10);
};

}  // namespace muster::agent
