#include "ctl/commands/backup_ids.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"
#include "muster/v1/backup_service.grpc.pb.h"

namespace muster::ctl {
namespace {

constexpr size_t kLeastDigits = 8;
constexpr size_t kMostCandidates = 10;
constexpr std::string_view kLatest = "/latest";
constexpr std::string_view kVerified = "/verified";

// Of 64 hex digits, or of a label of pgBackRest: "20261128-02".
bool IsPrefix(std::string_view text) {
  constexpr size_t kMostDigits = 64;
  if (text.size() < kLeastDigits || text.size() > kMostDigits) return false;
  if (text.find_first_not_of("0123456789abcdef") == std::string_view::npos) return true;
  return text.find_first_not_of("0123456789-_FDI") == std::string_view::npos;
}

StatusOr<std::string> Newest(Session& session, const std::string& job, bool verified) {
  v1::ListBackupsRequest request;
  request.set_job(job);
  MUSTER_ASSIGN_OR_RETURN(const auto backups, ListBackups(session, request, verified ? 0 : 1));
  for (const v1::StoredBackup& one : backups)
    if (!verified || one.verified()) return wire::BackupKey(one.backup());
  return NotFound("job {} has no {}backup", job, verified ? "verified " : "");
}

}  // namespace

StatusOr<std::vector<v1::StoredBackup>> ListBackups(Session& session,
                                                    v1::ListBackupsRequest request, size_t limit) {
  constexpr size_t kLargestPage = 1000;
  std::vector<v1::StoredBackup> backups;
  do {
    const size_t wanted = limit == 0 ? kLargestPage : limit - backups.size();
    request.set_page_size(static_cast<uint32_t>(std::min(wanted, kLargestPage)));
    v1::ListBackupsResponse response;
    MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
      response.Clear();
      return v1::BackupService::NewStub(channel)->ListBackups(&context, request, &response);
    }));
    for (v1::StoredBackup& one : *response.mutable_items()) backups.push_back(std::move(one));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty() && (limit == 0 || backups.size() < limit));
  return backups;
}

StatusOr<std::string> ResolveBackup(Session& session, const std::string& text) {
  for (const std::string_view suffix : {kLatest, kVerified}) {
    if (text.ends_with(suffix) && text.size() > suffix.size()) {
      return Newest(session, text.substr(0, text.size() - suffix.size()), suffix == kVerified);
    }
  }
  if (wire::IsBackupKey(text)) return text;
  if (!IsPrefix(text)) {
    return InvalidArgument(
        "\"{}\" is no backup: write its id, at least the first {} digits of it, JOB/latest or "
        "JOB/verified; see musterctl backup list",
        text, kLeastDigits);
  }
  v1::ListBackupsRequest request;
  // Others begin with the label of a full one.
  request.set_id_prefix(wire::IsBackupLabel(text) ? text + "@" : text);
  request.set_forgotten(true);
  MUSTER_ASSIGN_OR_RETURN(const auto matching, ListBackups(session, request, kMostCandidates));
  if (matching.empty()) return NotFound("there is no backup whose id begins with {}", text);
  if (matching.size() == 1) return wire::BackupKey(matching.front().backup());
  std::string candidates;
  for (const v1::StoredBackup& one : matching) {
    candidates += fmt::format("\n  {}  {}, {}", wire::BackupKey(one.backup()), one.job(),
                              TimeText(wire::FromProto(one.backup().taken_at())));
  }
  return InvalidArgument("several backups begin with {}; write more of the id:{}", text,
                         candidates);
}

}  // namespace muster::ctl
