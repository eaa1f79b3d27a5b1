// What a program, and all that it starts, may do: less than the user it runs as. Two of the
// kernel's means, neither of which needs root or can be taken back: Landlock for files
// (landlock(7), Linux 5.13), and a filter of system calls for sockets (seccomp(2), by libseccomp).
#pragma once

#include <string>
#include <vector>

#include "lib/base/status.h"

namespace muster::exec {

struct Confinement {
  // Files are made, changed and removed only below these folders, and /dev/null is written to. What
  // is open already stays so, and everything is read that the user may read.
  std::vector<std::string> writes;
  // The only programs that are executed, by their paths: what they start in turn as well.
  std::vector<std::string> programs;
  // Without it nothing is connected to, and there are no sockets but those of this host's files
  // (unix(7)), on which others may be waited for.
  bool connects = false;
};

// Whether this kernel knows Landlock, and we may use it. Without it `writes` and `programs` bind
// nobody.
bool CanConfineFiles();

// Confines the calling thread, and what it starts from then on: for ever. NotFound names a path
// that there is not; Unavailable says what the kernel does not take.
Status ConfineThread(const Confinement& confinement);

}  // namespace muster::exec
