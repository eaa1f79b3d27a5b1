#include "ctl/render/table.h"

#include <cctype>

#include "ctl/render/backups.h"
#include "ctl/render/jobs.h"

namespace muster::ctl {
namespace {

std::vector<Column> SpecColumns() {
  return {{"NAME", "name"},
          {"GENERATION", "generation"},
          {"AGE", "changedAt", Form::kAge},
          {"CHANGED BY", "changedBy"},
          {"HASH", "hash", Form::kText, true}};
}

std::vector<Column> AllSpecColumns() {
  std::vector<Column> columns = SpecColumns();
  columns.insert(columns.begin(), Column{"KIND", "kind"});
  return columns;
}

std::vector<Kind> MakeKinds() {
  const auto text = Form::kText;
  return {
      {"agents",
       "agent",
       "name",
       {{"NAME", "name"},
        {"CONNECTED", "connected"},
        {"LAST SEEN", "lastSeenAt", Form::kAge},
        {"VERSION", "version"},
        {"COMMITTED", "committedSeq"},
        {"GAPS", "gaps", Form::kCount},
        {"REVOKED", "revoked"},
        {"LABELS", "labels", Form::kLabels, true},
        {"SKEW", "clockSkew", text, true},
        {"LOG EPOCH", "logEpoch", text, true},
        {"CERTIFICATE UNTIL", "certificateExpiresAt", text, true}}},
      {"states",
       "state",
       "check",
       {{"CHECK", "check"},
        {"AGENT", "agent"},
        {"STATE", "state", Form::kState},
        {"HARD", "hard"},
        {"SINCE", "since", Form::kAge},
        {"OBSERVED", "observedAt", Form::kAge},
        {"LATENCY", "latency", text, true},
        {"SUMMARY", "summary"}}},
      {"alerts",
       "alert",
       "id",
       {{"ID", "id"},
        {"NAME", "name"},
        {"SEVERITY", "severity"},
        {"STATE", "state", Form::kState},
        {"STARTED", "startedAt", Form::kAge},
        {"RESOLVED", "resolvedAt", text, true},
        {"INHIBITED BY", "inhibitedBy", text, true},
        {"SUMMARY", "summary"}}},
      {"checks", "check", "name", SpecColumns()},
      {"receivers", "receiver", "name", SpecColumns()},
      {"runs",
       "run",
       "id",
       {{"ID", "id"},
        {"JOB", "job"},
        {"AGENT", "agent"},
        {"STATE", "state", Form::kState},
        {"SLOT", "slot"},
        {"STARTED", "started"},
        {"TOOK", "took"},
        {"ATTEMPT", "attempt", text, true},
        {"TRIGGER", "trigger", text, true},
        {"ASKED BY", "askedBy", text, true},
        {"REASON", "reason"}},
       RunRow},
      {"jobs",
       "job",
       "name",
       {{"NAME", "name"},
        {"SCHEDULE", "schedule"},
        {"PAUSED", "paused"},
        {"LAST", "last", Form::kState},
        {"NEXT", "next"},
        {"RUNNING", "running"},
        {"QUEUED", "queued"}},
       JobRow},
      {"backups",
       "backup",
       "snapshotId",
       {{"ID", "id"},
        {"JOB", "job"},
        {"TAKEN", "taken"},
        {"PROOF", "proof", Form::kState},
        {"SOURCE", "sourceSize"},
        {"STORED", "storedSize"},
        {"RESTORED IN", "restored"},
        {"AGENT", "agent"},
        {"REPOSITORY", "repository", text, true},
        {"RUN", "run", text, true},
        {"NOTE", "note"}},
       BackupTableRow},
      {"decisions",
       "decision",
       "snapshotId",
       {{"ID", "id"},
        {"TAKEN", "taken"},
        {"PROOF", "proof", Form::kState},
        {"SOURCE", "sourceSize"},
        {"DECISION", "decision"},
        {"REASON", "reason"}},
       BackupTableRow},
      {"specs", "spec", "name", AllSpecColumns()},
      {"operators",
       "operator",
       "name",
       {{"NAME", "name"},
        {"ROLE", "role"},
        {"CERTIFICATE UNTIL", "expiresAt"},
        {"REVOKED", "revoked"}}},
      {"replicas",
       "replica",
       "id",
       {{"ID", "id"},
        {"STATE", "state"},
        {"LEADER", "leader"},
        {"AGENTS", "agents"},
        {"ADDRESSES", "addresses", Form::kWords},
        {"VERSION", "version"},
        {"STARTED", "startedAt", Form::kAge},
        {"SEEN", "seenAt", Form::kAge},
        {"TERM", "epoch", text, true},
        {"INCARNATION", "incarnation", text, true}}},
      {"transitions",
       "transition",
       "id",
       {{"ID", "id"},
        {"AT", "at"},
        {"CHECK", "check"},
        {"AGENT", "agent"},
        {"FROM", "from", Form::kState},
        {"TO", "to", Form::kState},
        {"HARD", "hard"},
        {"REASON", "reason", text, true},
        {"SUMMARY", "summary"}}},
      {"audit",
       "audit",
       "sequence",
       {{"SEQUENCE", "sequence"},
        {"AT", "at"},
        {"ACTOR", "actor"},
        {"ACTION", "action"},
        {"SUBJECT", "subject"},
        {"DETAIL", "detail"},
        {"HASH", "hash", text, true}}},
  };
}

std::string Lower(std::string_view word) {
  std::string lower(word);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string Plain(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kinds = MakeKinds();
  return kinds;
}

const Kind* FindKind(std::string_view word) {
  const std::string lower = Lower(word);
  for (const Kind& kind : Kinds())
    if (lower == kind.plural || lower == kind.singular) return &kind;
  return nullptr;
}

std::string NameText(const Kind& kind, const Json& item) {
  std::string prefix(kind.singular);
  if (kind.singular == "spec") prefix = Lower(Plain(item.at("kind")));
  std::string name = Plain(item.at(std::string(kind.name_key)));
  if (kind.singular == "state") name += "/" + Plain(item.at("agent"));
  return prefix + "/" + name + "\n";
}

}  // namespace muster::ctl
