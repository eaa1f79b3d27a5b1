#include "agent/probes/pgbackrest_info.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

using nlohmann::json;

// Of a repository's status.
constexpr int64_t kOk = 0;
constexpr int64_t kNoStanza = 1;
constexpr int64_t kNoBackup = 2;
constexpr int64_t kNoData = 3;
constexpr size_t kNameDigits = 24;
constexpr size_t kMostWords = 300;

// What was decrypted with another pass may stand in a message, as it is.
json ParseJson(std::string_view text) {
  json parsed = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_discarded()) return parsed;
  return json::parse(CleanText(text), nullptr, /*allow_exceptions=*/false);
}

const json& At(const json& object, const char* name) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

int64_t Number(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

std::string Text(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

bool Flag(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_boolean() && value.get<bool>();
}

std::vector<json> List(const json& object, const char* name) {
  const json& value = At(object, name);
  return value.is_array() ? value.get<std::vector<json>>() : std::vector<json>();
}

uint64_t Positive(const json& object, const char* name) {
  return static_cast<uint64_t>(std::max<int64_t>(0, Number(object, name)));
}

absl::Time Second(const json& object, const char* name) {
  return absl::FromUnixSeconds(Number(object, name));
}

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

StanzaBackup ReadBackup(const json& one) {
  StanzaBackup backup;
  backup.label = Text(one, "label");
  backup.type = Text(one, "type");
  backup.prior = Text(one, "prior");
  for (const json& label : List(one, "reference"))
    if (label.is_string()) backup.references.push_back(label.get<std::string>());
  backup.start = Second(At(one, "timestamp"), "start");
  backup.stop = Second(At(one, "timestamp"), "stop");
  backup.first_segment = Text(At(one, "archive"), "start");
  backup.last_segment = Text(At(one, "archive"), "stop");
  backup.bytes = Positive(At(one, "info"), "size");
  backup.stored_bytes = Positive(At(At(one, "info"), "repository"), "size");
  backup.has_errors = Flag(one, "error");
  backup.database = Number(At(one, "database"), "id");
  backup.job = Text(At(one, "annotation"), "muster-job");
  backup.run = Text(At(one, "annotation"), "muster-run");
  return backup;
}

// Why the repository cannot be used, by what `info` says of it.
Status Unusable(int64_t code, const std::string& message, const std::string& stanza) {
  if (code == kOk || code == kNoBackup) return OkStatus();
  if (code == kNoStanza || code == kNoData) {
    return NotFound(
        "pgBackRest's repository has no stanza {} ({}): is its disk mounted? If it is new, run "
        "pgbackrest --stanza={} stanza-create with its configuration file",
        stanza, message, stanza);
  }
  const std::string words = OneLine(Truncate(CleanText(message), kMostWords));
  if (Has(message, "(Forbidden)")) {
    return PermissionDenied(
        "the service that keeps pgBackRest's repository does not let this host in: see to the key "
        "in pgBackRest's configuration file (repo1-s3-key and its like), and to what it may do: {}",
        words);
  }
  if (Has(message, "unable to verify certificate")) {
    return Unavailable(
        "the certificate of the service that keeps pgBackRest's repository is not trusted; name "
        "the file of its authority in repo1-storage-ca-file: {}",
        words);
  }
  // What was decrypted with another pass is no text.
  if (Has(message, "FormatError") || Has(message, "CryptoError")) {
    return PermissionDenied(
        "what pgBackRest keeps of stanza {} cannot be decrypted, or is damaged: repo-cipher-pass "
        "and repo-cipher-type must be what the repository was made with",
        stanza);
  }
  if (Has(message, "Permission denied")) {
    return PermissionDenied("pgBackRest cannot read its repository: {}: let its user read it",
                            words);
  }
  return Unavailable("pgBackRest cannot use the repository of stanza {}: {}", stanza, words);
}

bool OfRepository(const json& one, uint32_t repository) {
  return Number(At(one, "database"), "repo-key") == repository;
}

std::optional<uint64_t> Hex(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "000000010000000000000005" of "15-1/0000000100000000/000000010000000000000005-5b9a….gz"; empty
// for a history file, a label of a backup or part of a segment.
std::string SegmentName(std::string_view path) {
  const std::string_view file = path.substr(path.rfind('/') + 1);
  if (file.size() <= kNameDigits || file[kNameDigits] != '-') return "";
  const std::string_view name = file.substr(0, kNameDigits);
  return name.find_first_not_of("0123456789ABCDEF") == std::string_view::npos ? std::string(name)
                                                                              : "";
}

uint64_t After(std::string_view line, std::string_view words) {
  const size_t at = line.find(words);
  if (at == std::string_view::npos) return 0;
  line.remove_prefix(at + words.size());
  uint64_t number = 0;
  std::from_chars(line.data(), line.data() + line.size(), number);
  return number;
}

}  // namespace

const StanzaServer* StanzaInfo::server() const {
  return servers.empty() ? nullptr : &servers.back();
}

const StanzaServer* StanzaInfo::ServerOf(const StanzaBackup& backup) const {
  for (const StanzaServer& one : servers)
    if (one.id == backup.database) return &one;
  return nullptr;
}

const StanzaBackup* StanzaInfo::Find(std::string_view label) const {
  for (const StanzaBackup& backup : backups)
    if (backup.label == label) return &backup;
  return nullptr;
}

std::string StanzaInfo::ArchiveOf(const StanzaBackup& backup) const {
  const StanzaServer* of = ServerOf(backup);
  return of == nullptr ? archive_id : fmt::format("{}-{}", of->version, of->id);
}

std::string StanzaInfo::RepositoryId(const StanzaServer& of) const {
  return fmt::format("{}:{}", name, of.system_identifier);
}

StatusOr<StanzaInfo> ReadStanzaInfo(std::string_view text, const std::string& stanza,
                                    uint32_t repository) {
  const json all = ParseJson(text);
  if (!all.is_array()) return Unavailable("what pgbackrest info writes cannot be read");
  for (const json& one : all) {
    if (Text(one, "name") != stanza) continue;
    bool there = false;
    for (const json& repo : List(one, "repo")) {
      if (Number(repo, "key") != repository) continue;
      there = true;
      const json& status = At(repo, "status");
      MUSTER_RETURN_IF_ERROR(Unusable(Number(status, "code"), Text(status, "message"), stanza));
    }
    if (!there) {
      return NotFound("pgBackRest's configuration names no repository {} for stanza {}", repository,
                      stanza);
    }
    StanzaInfo info;
    info.name = stanza;
    for (const json& backup : List(one, "backup"))
      if (OfRepository(backup, repository)) info.backups.push_back(ReadBackup(backup));
    for (const json& server : List(one, "db")) {
      const json& id = At(server, "system-id");
      if (Number(server, "repo-key") != repository || !id.is_number_integer()) continue;
      info.servers.push_back({Number(server, "id"), id.dump(), Text(server, "version")});
    }
    if (const StanzaServer* newest = info.server(); newest != nullptr)
      info.archive_id = fmt::format("{}-{}", newest->version, newest->id);
    info.locked = Flag(At(At(At(one, "status"), "lock"), "backup"), "held");
    return info;
  }
  return Unusable(kNoStanza, "it is not listed", stanza);
}

StatusOr<WalArchive> WalArchive::Read(std::string_view text, const std::string& archive_id,
                                      uint64_t segment_size) {
  const json all = ParseJson(text);
  if (!all.is_object()) return DataLoss("pgBackRest's list of its archive cannot be read");
  WalArchive archive;
  std::vector<std::string> names;
  std::vector<absl::Time> times;
  for (const auto& [path, facts] : all.items()) {
    if (!path.starts_with(archive_id + "/") || Text(facts, "type") != "file") continue;
    std::string name = SegmentName(path);
    if (name.empty() || Number(facts, "size") == 0) continue;
    names.push_back(std::move(name));
    times.push_back(Second(facts, "time"));
  }
  if (segment_size > 0) {
    archive.per_log_ = std::max<uint64_t>(1, (uint64_t{1} << 32) / segment_size);
  } else {
    archive.GuessSize(names);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const std::optional<Segment> segment = archive.Parse(names[i]);
    if (!segment) continue;
    absl::Time& time = archive.times_.try_emplace(*segment, times[i]).first->second;
    time = std::max(time, times[i]);
  }
  return archive;
}

// A name does not say how large a segment is. One of 16 MiB, which nearly all are, has 256 names in
// 4 GiB of log; with larger ones every part of the log that is over ends with the same lower
// number.
void WalArchive::GuessSize(const std::vector<std::string>& names) {
  std::map<std::string, uint64_t> last_of_log;
  uint64_t largest = 0;
  for (const std::string& name : names) {
    const uint64_t low = Hex(std::string_view(name).substr(16)).value_or(0);
    uint64_t& last = last_of_log[name.substr(0, 16)];
    last = std::max(last, low);
    largest = std::max(largest, low);
  }
  while (per_log_ <= largest) per_log_ *= 2;
  if (per_log_ > 256 || last_of_log.size() < 2) return;
  const uint64_t size = last_of_log.begin()->second + 1;
  if ((size & (size - 1)) != 0 || size < 4) return;
  for (auto log = last_of_log.begin(); std::next(log) != last_of_log.end(); ++log)
    if (log->second + 1 != size) return;
  if (last_of_log.rbegin()->second < size) per_log_ = size;
}

std::optional<WalArchive::Segment> WalArchive::Parse(std::string_view name) const {
  if (name.size() != kNameDigits) return std::nullopt;
  const auto timeline = Hex(name.substr(0, 8));
  const auto log = Hex(name.substr(8, 8));
  const auto low = Hex(name.substr(16));
  if (!timeline || !log || !low || *low >= per_log_) return std::nullopt;
  return Segment{static_cast<uint32_t>(*timeline), *log * per_log_ + *low};
}

std::string WalArchive::Name(const Segment& segment) const {
  return fmt::format("{:08X}{:08X}{:08X}", segment.timeline, segment.number / per_log_,
                     segment.number % per_log_);
}

std::vector<WalArchive::Gap> WalArchive::GapsFrom(const Segment& first) const {
  std::vector<Gap> gaps;
  Segment next = first;
  for (auto at = times_.lower_bound(first); at != times_.end(); ++at) {
    const Segment& here = at->first;
    // A timeline begins with a copy of the last segment of the one before, or an earlier one.
    if (here.number > next.number) gaps.push_back({next, {next.timeline, here.number - 1}});
    next = {here.timeline, here.number + 1};
  }
  return gaps;
}

absl::Time WalArchive::TimeBehind(const Gap& gap) const {
  const auto behind = times_.upper_bound(gap.last);
  return behind == times_.end() ? absl::InfinitePast() : behind->second;
}

uint64_t WalArchive::highest() const {
  uint64_t number = 0;
  for (const auto& [segment, time] : times_) number = std::max(number, segment.number);
  return number;
}

std::optional<WalArchive::Segment> WalArchive::MissingOf(const Segment& first,
                                                         const Segment& last) const {
  for (Segment at = first; at.number <= last.number; ++at.number)
    if (!Has(at)) return at;
  return std::nullopt;
}

std::optional<WalArchive::Segment> WalArchive::LeadsTo(const Segment& first) const {
  if (!Has(first)) return std::nullopt;
  const std::vector<Gap> gaps = GapsFrom(first);
  if (gaps.empty()) return newest();
  return Segment{gaps[0].first.timeline, gaps[0].first.number - 1};
}

std::string WalArchive::GapText(const Gap& gap) const {
  if (gap.size() == 1) return Name(gap.first);
  return fmt::format("{} to {}", Name(gap.first), Name(gap.last));
}

namespace {

// "15-1/0000000100000000/000000010000000000000009-055….gz" of "invalid result 15-1/…: [29] raised",
// and what stands in quotes behind "invalid checksum".
std::string DamagedFile(std::string_view line) {
  const size_t at = line.find("invalid ");
  if (at == std::string_view::npos) return "";
  line.remove_prefix(at + 8);
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find('/') == std::string_view::npos) return "";
  line = Trim(line.substr(space + 1));
  if (line.starts_with('\'')) return std::string(line.substr(1, line.find('\'', 1) - 1));
  return std::string(line.substr(0, line.find(": ")));
}

std::vector<std::string> DamagedFiles(std::string_view log) {
  std::vector<std::string> files;
  for (const std::string_view line : Split(log, '\n'))
    if (std::string file = DamagedFile(line); !file.empty()) files.push_back(std::move(file));
  return files;
}

// What verify counts in a line: everything that it looked at was as it should be.
bool AllValid(std::string_view line, std::string_view of, uint64_t& checked) {
  checked = After(line, fmt::format("total {} checked: ", of));
  return checked > 0 && checked == After(line, fmt::format("total valid {}: ", of));
}

Status Damaged(const std::vector<std::string>& files, std::string_view of) {
  const std::string which = files.empty() ? "" : ": " + OneLine(files.front());
  const std::string more = files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : "";
  return DataLoss(
      "pgBackRest finds {} damaged{}{}: take a full backup now, into another repository if this "
      "disk fails",
      of, which, more);
}

}  // namespace

Status ReadVerified(std::string_view out, std::string_view log, const StanzaBackup& backup,
                    const std::string& archive_id, uint64_t& files) {
  bool found = false;
  bool log_ok = true;
  bool backup_ok = true;
  for (const std::string_view line : Split(out, '\n')) {
    uint64_t checked = 0;
    if (Has(line, "No usable ")) return Damaged({}, OneLine(Trim(line)));
    if (Has(line, fmt::format("archiveId: {},", archive_id))) {
      log_ok = AllValid(line, "WAL", checked);
    } else if (Has(line, fmt::format("backup: {}, ", backup.label))) {
      found = true;
      backup_ok = AllValid(line, "files", files) && Has(line, "status: valid");
    }
  }
  if (!found) return DataLoss("pgBackRest did not verify the backup {}", backup.label);
  const std::vector<std::string> damaged = DamagedFiles(log);
  if (!backup_ok) {
    std::vector<std::string> own;
    for (const std::string& file : damaged)
      if (!file.starts_with(archive_id + "/")) own.push_back(file);
    return Damaged(own, "the backup " + backup.label);
  }
  if (log_ok) return OkStatus();
  // The log before the backup is none of its matter.
  std::vector<std::string> own;
  bool any = false;
  for (const std::string& file : damaged) {
    if (!file.starts_with(archive_id + "/")) continue;
    any = true;
    if (SegmentName(file) >= backup.first_segment) own.push_back(file);
  }
  if (any && own.empty()) return OkStatus();
  return Damaged(own, "the log behind the backup " + backup.label);
}

}  // namespace muster::agent
