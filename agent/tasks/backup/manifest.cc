#include "agent/tasks/backup/manifest.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <vector>

#include <absl/synchronization/mutex.h>
#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/programs.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/wire/columns.h"

namespace muster::agent::backup {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr int kReaders = 2;  // of one folder: one core alone is slower than a disk

StatusOr<std::vector<std::string>> ListFiles(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  auto at = std::filesystem::recursive_directory_iterator(folder, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    if (at->is_symlink(error) || !at->is_regular_file(error)) continue;
    paths.push_back(at->path().lexically_relative(folder).native());
  }
  if (error) return Unavailable("cannot read {}: {}", folder, error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

Status HashFile(const TaskContext& context, const std::string& path, v1::ManifestFile& file,
                std::vector<char>& buffer, const SeeBytes& see) {
  const exec::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.open()) return Unavailable("cannot read {}: {}", path, std::strerror(errno));
  Digest digest;
  uint64_t size = 0;
  while (true) {
    MUSTER_RETURN_IF_ERROR(GoOn(context));
    const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
    if (got < 0) return Unavailable("cannot read {}: {}", path, std::strerror(errno));
    if (got == 0) break;
    const std::string_view bytes(buffer.data(), static_cast<size_t>(got));
    digest.Add(bytes);
    if (see) see(file.path(), bytes);
    size += bytes.size();
  }
  file.set_size(size);
  file.set_sha256(digest.Take());
  return OkStatus();
}

// Those that have no hash yet.
Status HashThose(const TaskContext& context, const std::string& folder, Files& files,
                 const SeeBytes& see) {
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  Status failed;
  const auto read = [&] {
    std::vector<char> buffer(kPiece);
    for (size_t i = next++; i < files.size(); i = next++) {
      if (!files[i].sha256().empty()) continue;
      const Status hashed =
          HashFile(context, folder + "/" + files[i].path(), files[i], buffer, see);
      if (hashed.ok()) continue;
      absl::MutexLock lock(&mutex);
      failed.Update(hashed);
      next = files.size();
    }
  };
  {
    std::vector<exec::Thread> others;
    for (int i = 1; i < kReaders; ++i) others.emplace_back("hash", read);
    read();
  }
  return failed;
}

}  // namespace

StatusOr<Files> HashFolder(const TaskContext& context, const std::string& folder,
                           const Files& known) {
  std::map<std::string_view, const v1::ManifestFile*> hashed;
  for (const v1::ManifestFile& file : known) hashed[file.path()] = &file;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListFiles(folder));
  Files files;
  for (const std::string& path : paths) {
    const auto found = hashed.find(path);
    if (found != hashed.end()) {
      files.push_back(*found->second);
    } else {
      files.emplace_back().set_path(path);
    }
  }
  MUSTER_RETURN_IF_ERROR(HashThose(context, folder, files, {}));
  return files;
}

StatusOr<Files> HashSub(const TaskContext& context, const std::string& folder,
                        const std::string& sub, const SeeBytes& see) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListFiles(folder + "/" + sub));
  Files files;
  for (const std::string& path : paths) files.emplace_back().set_path(sub + "/" + path);
  MUSTER_RETURN_IF_ERROR(HashThose(context, folder, files, see));
  return files;
}

Status HashOne(const TaskContext& context, const std::string& path, v1::ManifestFile& file) {
  std::vector<char> buffer(kPiece);
  return HashFile(context, path, file, buffer, {});
}

uint64_t BytesOf(const Files& files) {
  uint64_t bytes = 0;
  for (const v1::ManifestFile& file : files) bytes += file.size();
  return bytes;
}

Status CompareFiles(const Files& want, const Files& have) {
  const size_t most = std::max(want.size(), have.size());
  for (size_t i = 0; i < most; ++i) {
    if (i == have.size() || (i < want.size() && want[i].path() < have[i].path())) {
      return DataLoss("{} is not in the backup", OneLine(want[i].path()));
    }
    if (i == want.size() || have[i].path() < want[i].path()) {
      return DataLoss("{} is in the backup, and not in its manifest", OneLine(have[i].path()));
    }
    if (have[i].size() != want[i].size()) {
      return DataLoss("{} has {} bytes in the backup, and {} in its manifest",
                      OneLine(want[i].path()), have[i].size(), want[i].size());
    }
    if (have[i].sha256() != want[i].sha256()) {
      return DataLoss("{} was read back with other bytes than were put in",
                      OneLine(want[i].path()));
    }
  }
  return OkStatus();
}

Status CompareTables(const Tables& want, const Tables& have) {
  std::map<std::string, uint64_t> there;
  for (const v1::TableRows& table : have) there[table.table()] = table.rows();
  for (const v1::TableRows& table : want) {
    const auto found = there.find(table.table());
    if (found == there.end()) return DataLoss("the table {} is missing", OneLine(table.table()));
    if (found->second == table.rows()) continue;
    return DataLoss("the table {} has {} rows, and {} in the manifest", OneLine(table.table()),
                    found->second, table.rows());
  }
  return OkStatus();
}

std::string ManifestText(const v1::BackupManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(manifest, &text, options);
  return text;
}

StatusOr<v1::BackupManifest> ParseManifest(std::string_view text) {
  v1::BackupManifest manifest;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer agent
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(std::string(text), &manifest, options);
  if (parsed.ok() && manifest.engine() != v1::BACKUP_ENGINE_UNSPECIFIED) return manifest;
  return DataLoss("{} is no manifest of muster", kManifestName);
}

std::string ManifestHash(const v1::BackupManifest& manifest) {
  if (manifest.engine() != v1::BACKUP_ENGINE_FILES) return Sha256(ManifestText(manifest));
  v1::BackupManifest files;
  files.set_engine(manifest.engine());
  *files.mutable_files() = manifest.files();
  return Sha256(ManifestText(files));
}

void Describe(const v1::BackupManifest& manifest, v1::Backup& backup) {
  backup.set_engine(manifest.engine());
  backup.set_source(manifest.source());
  *backup.mutable_taken_at() = manifest.taken_at();
  backup.set_system_identifier(manifest.system_identifier());
  backup.set_database(manifest.database());
  backup.set_server_version(manifest.server_version());
  backup.set_client_version(manifest.client_version());
  backup.set_manifest_hash(ManifestHash(manifest));
  backup.set_files(static_cast<uint64_t>(manifest.files_size()));
  uint64_t bytes = 0;
  for (const v1::ManifestFile& file : manifest.files()) bytes += file.size();
  backup.set_source_bytes(bytes);
  backup.set_key_count(manifest.key_count());
  backup.set_table_count(static_cast<uint64_t>(manifest.tables_size()));
  uint64_t rows = 0;
  for (const v1::TableRows& table : manifest.tables()) rows += table.rows();
  backup.set_row_count(rows);
  backup.clear_tables();
  if (static_cast<size_t>(manifest.tables_size()) <= wire::kMostTables) {
    *backup.mutable_tables() = manifest.tables();
  }
}

}  // namespace muster::agent::backup
