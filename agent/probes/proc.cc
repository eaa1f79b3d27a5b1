#include "agent/probes/proc.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace muster::agent {

StatusOr<std::string> ReadProc(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return NotFound("{} does not exist", path);
  if (fd < 0) return Unavailable("cannot read {}: {}", path, std::strerror(errno));
  std::string text;
  std::array<char, 4096> buffer{};
  ssize_t count = 0;
  while (text.size() < 65536 && (count = read(fd, buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  const int error = errno;
  close(fd);
  if (count < 0) return NotFound("cannot read {}: {}", path, std::strerror(error));
  return text;
}

}  // namespace muster::agent
