#include "agent/tasks/backup/programs.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr size_t kMostOut = 16 << 20;
constexpr size_t kMostErr = 4 << 10;

bool IsProgram(const std::string& path) { return access(path.c_str(), X_OK) == 0; }

std::vector<int> MajorVersions(const std::string& root, std::string_view name) {
  std::vector<int> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    const std::string text = entry.path().filename().native();
    int major = 0;
    const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), major);
    if (wrong != std::errc() || end != text.data() + text.size()) continue;
    if (IsProgram(fmt::format("{}/{}/bin/{}", root, major, name))) found.push_back(major);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The last line that says that something is wrong, or else the last one.
std::string LastWords(std::string_view text) {
  const std::vector<std::string_view> lines = Split(Trim(text), '\n');
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    for (const std::string_view mark : {"error: ", "Fatal: ", "FATAL: ", "ERROR: "})
      if (line->find(mark) != std::string_view::npos) return OneLine(*line);
  }
  return OneLine(lines.back());
}

}  // namespace

StatusOr<std::string> FindProgram(std::string_view name, std::string_view package) {
  std::string path = fmt::format("/usr/bin/{}", name);
  if (IsProgram(path)) return path;
  return NotFound("there is no {} on this host: run apt-get install {}", path, package);
}

StatusOr<std::string> FindPostgres(int major, std::string_view name, std::string_view package,
                                   const std::string& root) {
  const std::vector<int> there = MajorVersions(root, name);
  const auto found = std::lower_bound(there.begin(), there.end(), major);
  if (found != there.end()) return fmt::format("{}/{}/bin", root, *found);
  if (there.empty()) {
    return NotFound("there is no {}/{}/bin/{} on this host: run apt-get install {}-{}", root, major,
                    name, package, major);
  }
  return NotFound(
      "the server is PostgreSQL {}, and this host has {} of PostgreSQL {} at most, "
      "which does not read a newer one: run apt-get install {}-{}",
      major, name, there.back(), package, major);
}

StatusOr<exec::Fd> MemoryFile(std::string_view text) {
  exec::Fd fd(memfd_create("muster", MFD_CLOEXEC));
  if (!fd.open()) return Unavailable("memfd_create: {}", std::strerror(errno));
  if (fchmod(fd.get(), 0600) != 0) return Unavailable("fchmod: {}", std::strerror(errno));
  while (!text.empty()) {
    const ssize_t wrote = write(fd.get(), text.data(), text.size());
    if (wrote <= 0) return Unavailable("write to memory: {}", std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  if (lseek(fd.get(), 0, SEEK_SET) != 0) return Unavailable("lseek: {}", std::strerror(errno));
  return fd;
}

Status GoOn(const TaskContext& context) {
  if (context.demand() == Demand::kNone) return OkStatus();
  return Aborted("the run is to end");
}

StatusOr<ToolEnd> RunTool(TaskContext& context, ProgramRequest request) {
  ToolEnd tool;
  if (!request.on_out && request.out < 0) {
    request.on_out = [&](std::string_view bytes) {
      tool.out += bytes.substr(0, kMostOut - std::min(kMostOut, tool.out.size()));
    };
  }
  const auto hear = std::exchange(request.on_err, {});
  request.on_err = [&](std::string_view bytes) {
    hear ? hear(bytes) : context.Output(v1::RunOutput::STREAM_STDERR, bytes);
    tool.err += bytes;
    if (tool.err.size() > kMostErr) tool.err.erase(0, tool.err.size() - kMostErr);
  };
  MUSTER_ASSIGN_OR_RETURN(const ProgramEnd end, context.RunProgram(request));
  if (end.asked) return Aborted("the run is to end");
  tool.exit_code = end.exit_code;
  tool.signal = end.signal;
  tool.last_words = LastWords(tool.err);
  return tool;
}

Status ToolFailed(const ProgramRequest& request, const ToolEnd& end) {
  const std::string name = std::filesystem::path(request.argv[0]).filename();
  const std::string how = end.signal != 0 ? fmt::format("ended by signal {}", end.signal)
                                          : fmt::format("exit code {}", end.exit_code);
  if (end.last_words.empty()) return Unavailable("{}: {}", name, how);
  return Unavailable("{}: {}: {}", name, how, end.last_words);
}

StatusOr<ToolEnd> RunToolWell(TaskContext& context, ProgramRequest request) {
  MUSTER_ASSIGN_OR_RETURN(ToolEnd end, RunTool(context, request));
  if (end.exit_code != 0) return ToolFailed(request, end);
  return end;
}

}  // namespace muster::agent::backup
