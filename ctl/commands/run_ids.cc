#include "ctl/commands/run_ids.h"

#include "ctl/commands/commands.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

constexpr std::string_view kForm = "00000000-0000-0000-0000-000000000000";
constexpr size_t kLeastDigits = 8;
constexpr size_t kMostCandidates = 10;
constexpr std::string_view kLatest = "/latest";

bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

std::string Lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

StatusOr<std::string> Latest(Session& session, const std::string& job) {
  v1::ListRunsRequest request;
  request.set_job(job);
  request.set_own(true);
  MUSTER_ASSIGN_OR_RETURN(const SomeRuns some, ListRuns(session, request, 1));
  if (some.runs.empty()) return NotFound("job {} has no run yet", job);
  return some.runs.front().id();
}

}  // namespace

bool IsRunPrefix(std::string_view text) {
  if (text.size() < kLeastDigits || text.size() > kForm.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (kForm[i] == '-' ? text[i] != '-' : !IsHex(text[i])) return false;
  }
  return true;
}

bool IsRunId(std::string_view text) { return text.size() == kForm.size() && IsRunPrefix(text); }

StatusOr<std::string> PickRun(const std::string& prefix, const std::vector<v1::Run>& matching) {
  if (matching.empty()) return NotFound("there is no run whose id begins with {}", prefix);
  if (matching.size() == 1) return matching.front().id();
  std::string candidates;
  for (size_t i = 0; i < std::min(matching.size(), kMostCandidates); ++i) {
    const v1::Run& run = matching[i];
    candidates += fmt::format("\n  {}  {}, slot {}", run.id(), run.job(),
                              TimeText(wire::FromProto(run.slot())));
  }
  if (matching.size() > kMostCandidates) candidates += "\n  … and more";
  return InvalidArgument("several runs begin with {}; write more of the id:{}", prefix, candidates);
}

StatusOr<std::string> ResolveRun(Session& session, const std::string& text) {
  if (text.ends_with(kLatest) && text.size() > kLatest.size())
    return Latest(session, text.substr(0, text.size() - kLatest.size()));
  const std::string prefix = Lower(text);
  if (IsRunId(prefix)) return prefix;
  if (!IsRunPrefix(prefix)) {
    return InvalidArgument(
        "\"{}\" is no run: write its id, at least the first {} digits of it, or JOB/latest; see "
        "musterctl get runs",
        text, kLeastDigits);
  }
  v1::ListRunsRequest request;
  request.set_id_prefix(prefix);
  MUSTER_ASSIGN_OR_RETURN(const SomeRuns some, ListRuns(session, request, kMostCandidates + 1));
  return PickRun(text, some.runs);
}

}  // namespace muster::ctl
