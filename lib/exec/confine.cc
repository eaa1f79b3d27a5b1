#include "lib/exec/confine.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <link.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/exec/program.h"

namespace muster::exec {
namespace {

// What there is to be forbidden since the first Landlock (Linux 5.13).
constexpr uint64_t kMakeAndRemove =
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
constexpr int kReferSince = 2;     // to link and rename between folders
constexpr int kTruncateSince = 3;  // to cut a file that is not open for writing
// Debian 12's header is of Linux 6.1, which does not know it yet.
constexpr uint64_t kTruncate = 1ULL << 14;

// 0 where there is no Landlock.
int LandlockVersion() {
  static const int version = static_cast<int>(
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  return version < 0 ? 0 : version;
}

uint64_t ChangesFile() {
  return LANDLOCK_ACCESS_FS_WRITE_FILE | (LandlockVersion() >= kTruncateSince ? kTruncate : 0);
}

uint64_t Changes() {
  return kMakeAndRemove | ChangesFile() |
         (LandlockVersion() >= kReferSince ? LANDLOCK_ACCESS_FS_REFER : 0);
}

// Who loads the programs of this machine, and is executed with each of them: as our own file says.
std::string Loader() {
  std::string loader;
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* found) {
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const ElfW(Phdr)& header = object->dlpi_phdr[i];
          if (header.p_type != PT_INTERP) continue;
          *static_cast<std::string*>(found) =
              reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
        }
        return 1;  // the first is the program itself
      },
      &loader);
  return loader;
}

class Landlock {
 public:
  Status Make() {
    landlock_ruleset_attr rules{};
    rules.handled_access_fs = Changes() | LANDLOCK_ACCESS_FS_EXECUTE;
    rules_ = Fd(static_cast<int>(syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0)));
    if (rules_.open()) return OkStatus();
    return Unavailable("landlock_create_ruleset: {}", std::strerror(errno));
  }

  Status Allow(const std::string& path, uint64_t what) {
    const Fd file(open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!file.open()) return NotFound("{}: {}", path, std::strerror(errno));
    landlock_path_beneath_attr rule{};
    rule.allowed_access = what;
    rule.parent_fd = file.get();
    if (syscall(SYS_landlock_add_rule, rules_.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0) {
      return OkStatus();
    }
    return Unavailable("landlock_add_rule {}: {}", path, std::strerror(errno));
  }

  Status Begin() {
    if (syscall(SYS_landlock_restrict_self, rules_.get(), 0) == 0) return OkStatus();
    return Unavailable("landlock_restrict_self: {}", std::strerror(errno));
  }

 private:
  Fd rules_;
};

Status ConfineFiles(const Confinement& confinement) {
  Landlock landlock;
  MUSTER_RETURN_IF_ERROR(landlock.Make());
  for (const std::string& folder : confinement.writes) {
    MUSTER_RETURN_IF_ERROR(landlock.Allow(folder, Changes()));
  }
  MUSTER_RETURN_IF_ERROR(landlock.Allow("/dev/null", ChangesFile()));
  for (const std::string& program : confinement.programs) {
    MUSTER_RETURN_IF_ERROR(landlock.Allow(program, LANDLOCK_ACCESS_FS_EXECUTE));
  }
  if (const std::string loader = Loader(); !loader.empty()) {
    MUSTER_RETURN_IF_ERROR(landlock.Allow(loader, LANDLOCK_ACCESS_FS_EXECUTE));
  }
  return landlock.Begin();
}

Status RefuseConnections() {
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                seccomp_release);
  if (filter == nullptr) return Unavailable("seccomp_init failed");
  const scmp_filter_ctx rules = filter.get();
  int error = seccomp_rule_add(rules, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                               SCMP_A0(SCMP_CMP_NE, AF_UNIX));
  // io_uring connects as well; the others reach into processes of the same user that are not
  // confined.
  for (const int call :
       {SCMP_SYS(connect), SCMP_SYS(io_uring_setup), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd)}) {
    if (error == 0) error = seccomp_rule_add(rules, SCMP_ACT_ERRNO(EACCES), call, 0);
  }
  if (error == 0) error = seccomp_load(rules);
  if (error == 0) return OkStatus();
  return Unavailable("seccomp: {}", std::strerror(-error));
}

}  // namespace

bool CanConfineFiles() { return LandlockVersion() > 0; }

Status ConfineThread(const Confinement& confinement) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Unavailable("PR_SET_NO_NEW_PRIVS: {}", std::strerror(errno));
  }
  if (CanConfineFiles()) MUSTER_RETURN_IF_ERROR(ConfineFiles(confinement));
  return confinement.connects ? OkStatus() : RefuseConnections();
}

}  // namespace muster::exec
