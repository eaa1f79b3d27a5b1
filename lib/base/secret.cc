#include "lib/base/secret.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace muster {
namespace {

constexpr size_t kLargestSecret = 64 * 1024;

StatusOr<Secret> ReadSecretFile(const std::string& path, std::string_view reference) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NotFound("secret {}: {}", reference, std::strerror(errno));
  struct stat found {};
  if (fstat(fd, &found) == 0 && (found.st_mode & S_IROTH) != 0) {
    close(fd);
    return PermissionDenied("secret {}: every user can read the file; run: chmod o-r {}", reference,
                            path);
  }
  std::string text(kLargestSecret, '\0');
  size_t size = 0;
  ssize_t got = 0;
  while (size < text.size() && (got = read(fd, text.data() + size, text.size() - size)) > 0) {
    size += static_cast<size_t>(got);
  }
  close(fd);
  if (got < 0) return Unavailable("secret {}: {}", reference, std::strerror(errno));
  std::string first_line(text.data(), std::min(size, text.find_first_of("\r\n")));
  WipeText(text);
  if (first_line.empty()) return InvalidArgument("secret {}: the file is empty", reference);
  return Secret(std::move(first_line));
}

}  // namespace

void WipeText(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

Secret::Secret(std::string text) : text_(std::move(text)) { WipeText(text); }
Secret::Secret(Secret&& other) noexcept : text_(other.text_) { other.Wipe(); }
Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    text_ = other.text_;
    other.Wipe();
  }
  return *this;
}
Secret::~Secret() { Wipe(); }
void Secret::Wipe() { WipeText(text_); }

StatusOr<Secret> ReadSecretReference(std::string_view reference) {
  if (reference.starts_with("file:/")) {
    return ReadSecretFile(std::string(reference.substr(5)), reference);
  }
  if (reference.starts_with("env:")) {
    const char* value = std::getenv(std::string(reference.substr(4)).c_str());
    if (value == nullptr || *value == '\0') {
      return NotFound("secret {}: the variable is not set for this process", reference);
    }
    return Secret(value);
  }
  if (reference.starts_with("systemd:")) {
    const std::string name(reference.substr(8));
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
    if (folder == nullptr || name.find('/') != std::string::npos) {
      return NotFound("secret {}: the unit has no such credential; add LoadCredential={}:PATH",
                      reference, name);
    }
    return ReadSecretFile(std::string(folder) + "/" + name, reference);
  }
  return InvalidArgument(
      "\"{}\" is not a secret reference; write file:/PATH, env:NAME or systemd:NAME", reference);
}

}  // namespace muster
