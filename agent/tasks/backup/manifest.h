// What a backup holds, file by file, and whether what was read back is the same.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

// Beside what it tells of, at the top of the backup.
inline constexpr char kManifestName[] = "manifest.json";

using Files = std::vector<v1::ManifestFile>;

// Every regular file in the folder, with its path from there, by path; those that are `known` are
// not read again. Aborted once the run is to end.
StatusOr<Files> HashFolder(const TaskContext& context, const std::string& folder,
                           const Files& known = {});
// Those of the folder `sub` in it. `see` gets each file's bytes as well, piece by piece; of several
// files at once, on as many threads.
using SeeBytes = std::function<void(const std::string& path, std::string_view bytes)>;
StatusOr<Files> HashSub(const TaskContext& context, const std::string& folder,
                        const std::string& sub, const SeeBytes& see);
// Size and hash of one file.
Status HashOne(const TaskContext& context, const std::string& path, v1::ManifestFile& file);
uint64_t BytesOf(const Files& files);

// DataLoss names the first file that is missing, different or too many.
Status CompareFiles(const Files& want, const Files& have);
// The same of rows, table by table.
using Tables = google::protobuf::RepeatedPtrField<v1::TableRows>;
Status CompareTables(const Tables& want, const Tables& have);

// JSON, and back; DataLoss for what is no manifest.
std::string ManifestText(const v1::BackupManifest& manifest);
StatusOr<v1::BackupManifest> ParseManifest(std::string_view text);

// SHA-256 of its text; of a backup of files, of what was read back alone.
std::string ManifestHash(const v1::BackupManifest& manifest);

// What the record of the backup says of the manifest: figures, and the tables while they are few.
void Describe(const v1::BackupManifest& manifest, v1::Backup& backup);

}  // namespace muster::agent::backup
