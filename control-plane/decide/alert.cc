#include "control-plane/decide/alert.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "control-plane/decide/absence.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

v1::Severity SeverityOf(v1::CheckStatus status) {
  return status == v1::CHECK_STATUS_CRITICAL ? v1::SEVERITY_CRITICAL : v1::SEVERITY_WARNING;
}

std::string_view SeverityName(v1::Severity severity) {
  return severity == v1::SEVERITY_CRITICAL ? "critical" : "warning";
}

std::string CheckKey(std::string_view agent, uint32_t check) {
  return fmt::format("check/{}/{}", agent, check);
}

std::string NoDataKey(std::string_view agent, uint32_t check) {
  return fmt::format("nodata/{}/{}", agent, check);
}

constexpr std::string_view kAbsentKey = "absent/";

std::string AbsentKey(std::string_view agent) { return fmt::format("{}{}", kAbsentKey, agent); }

constexpr std::string_view kReplicaKey = "replica/";

std::string ReplicaKey(std::string_view replica) {
  return fmt::format("{}{}", kReplicaKey, replica);
}

// Of an alert of ReplicaKey's shape, the replica; else empty.
std::string_view ReplicaOf(const AlertRow& alert) {
  const std::string_view key = alert.key;
  return key.starts_with(kReplicaKey) ? key.substr(kReplicaKey.size()) : std::string_view();
}

constexpr std::string_view kJobKey = "job/";

std::string JobKey(std::string_view job) { return fmt::format("{}{}", kJobKey, job); }

constexpr std::string_view kLateKey = "late/";

std::string LateKey(std::string_view job) { return fmt::format("{}{}", kLateKey, job); }

constexpr std::string_view kBackupKey = "backup/";

std::string BackupKey(std::string_view job) { return fmt::format("{}{}", kBackupKey, job); }

// Of an alert of JobKey's, LateKey's or BackupKey's shape, the job; else empty.
std::string_view JobOf(const AlertRow& alert) {
  const std::string_view key = alert.key;
  for (const std::string_view prefix : {kJobKey, kLateKey, kBackupKey}) {
    if (key.starts_with(prefix)) return key.substr(prefix.size());
  }
  return {};
}

bool IsBad(v1::RunState state) {
  return state == v1::RUN_STATE_FAILED || state == v1::RUN_STATE_TIMED_OUT ||
         state == v1::RUN_STATE_MISSED || state == v1::RUN_STATE_UNKNOWN;
}

// "failed", "timed out", "missed", "unknown".
std::string_view HowItEnded(v1::RunState state) {
  switch (state) {
    case v1::RUN_STATE_TIMED_OUT: return "timed out";
    case v1::RUN_STATE_MISSED: return "missed";
    case v1::RUN_STATE_UNKNOWN: return "unknown";
    default: return "failed";
  }
}

// The check's number in a key of CheckKey's or NoDataKey's shape.
std::optional<uint32_t> CheckOf(const AlertRow& alert) {
  if (alert.check.empty()) return std::nullopt;
  const std::string_view number = std::string_view(alert.key).substr(alert.key.rfind('/') + 1);
  uint32_t id = 0;
  const auto read = std::from_chars(number.data(), number.data() + number.size(), id);
  if (read.ec != std::errc()) return std::nullopt;
  return id;
}

// One round. Alerts are looked up by key while they are open, and come out in the order they were
// touched.
class Round {
 public:
  Round(const AlertFacts& facts, absl::Time now) : facts_(facts), now_(now) {
    decision_.expected_cursor = facts.cursor;
    decision_.new_cursor = facts.transitions.empty() ? facts.cursor : facts.transitions.back().id;
    for (const AlertRow& alert : facts.open) open_.emplace(alert.key, Entry{alert, false});
  }

  AlertDecision Run() && {
    for (const auto& [id, replica] : facts_.replicas) FollowReplica(id, replica);
    for (const auto& [name, job] : facts_.jobs) {
      FollowJob(name, job);
      FollowLate(name, job);
      FollowBackups(name, job);
    }
    for (const auto& [name, agent] : facts_.agents) RaiseAbsence(name, agent);
    for (const TransitionRow& transition : facts_.transitions) Follow(transition);
    EndAbsences();
    ResolveWhatIsNotAsked();
    TellTheUntold();
    for (auto& [key, entry] : open_) Keep(std::move(entry));
    return std::move(decision_);
  }

 private:
  struct Entry {
    AlertRow row;
    bool changed = false;
  };

  AlertRow* Find(const std::string& key) {
    const auto found = open_.find(key);
    return found == open_.end() ? nullptr : &found->second.row;
  }

  void Note(AlertRow& alert, absl::Time at, std::string what, std::string reason) {
    open_.at(alert.key).changed = true;
    decision_.events.push_back({alert.id, at, std::move(what), std::move(reason)});
  }

  void Keep(Entry entry) {
    if (entry.changed) decision_.alerts.push_back(std::move(entry.row));
  }

  AlertRow& OpenAlert(AlertRow alert, std::string_view cause) {
    alert.id =
        NameUuid(fmt::format("{}@{}#{}", alert.key, absl::ToUnixMicros(alert.started_at), cause));
    alert.state = v1::ALERT_STATE_PENDING;
    alert.fired_at = absl::InfinitePast();
    alert.resolved_at = absl::InfiniteFuture();
    std::string key = alert.key;
    return open_.insert_or_assign(std::move(key), Entry{std::move(alert), true}).first->second.row;
  }

  AlertRow& OpenCheckAlert(std::string key, const TransitionRow& transition,
                           const CheckNote& check) {
    return OpenAlert({.key = std::move(key),
                      .check = check.name,
                      .agent = transition.agent,
                      .started_at = transition.at,
                      .summary = transition.summary,
                      .description = check.description,
                      .runbook = check.runbook},
                     fmt::format("{}", transition.id));
  }

  void Tell(AlertRow& alert, std::string_view event) {
    for (const std::string& receiver : facts_.receivers) {
      decision_.outbox.push_back({.alert_id = alert.id,
                                  .receiver = receiver,
                                  .event = std::string(event),
                                  .payload = AlertMessage(alert).SerializeAsString(),
                                  .created_at = now_,
                                  .next_attempt_at = now_,
                                  .delivered_at = absl::InfinitePast()});
    }
  }

  // Tells of the raise unless the alert is inhibited or nobody listens.
  void TellRaise(AlertRow& alert) {
    if (!alert.inhibited_by.empty() || facts_.receivers.empty()) return;
    alert.told = true;
    Tell(alert, "raised");
  }

  void Fire(AlertRow& alert, v1::Severity severity, absl::Time at, std::string reason) {
    alert.state = v1::ALERT_STATE_FIRING;
    alert.severity = severity;
    alert.fired_at = at;
    Note(alert, at, "firing", std::move(reason));
    const AlertRow* absence = alert.check.empty() ? nullptr : Find(AbsentKey(alert.agent));
    if (absence != nullptr) {
      alert.inhibited_by = absence->id;
      Note(alert, at, "inhibited", fmt::format("nobody is told while {}", absence->name));
    }
    TellRaise(alert);
  }

  void Resolve(AlertRow& alert, absl::Time at, std::string reason) {
    alert.state = v1::ALERT_STATE_RESOLVED;
    alert.resolved_at = std::max(at, alert.started_at);
    Note(alert, at, "resolved", std::move(reason));
    if (alert.told) Tell(alert, "resolved");
    Keep(std::move(open_.extract(alert.key).mapped()));
  }

  void FollowReplica(const std::string& id, const ReplicaPresence& replica) {
    AlertRow* open = Find(ReplicaKey(id));
    if (open != nullptr && !replica.lost) return Resolve(*open, now_, "it is back");
    if (open != nullptr || !replica.lost) return;
    AlertRow& alert = OpenAlert(
        {.key = ReplicaKey(id),
         .name = fmt::format("replica/{} lost", id),
         .started_at = replica.seen_at,
         .summary = fmt::format("not seen since {}", TimeText(replica.seen_at)),
         .description =
             "One copy of the control plane is gone; the others carry on. Start it again, "
             "or forget it: musterctl delete replica " +
             id},
        fmt::format("{}", replica.incarnation));
    Fire(alert, v1::SEVERITY_CRITICAL, now_, "not seen for longer than its lease");
  }

  void FollowJob(const std::string& name, const JobNote& job) {
    AlertRow* open = Find(JobKey(name));
    const JobHealth& health = job.health;
    if (!IsBad(health.state)) {
      if (open != nullptr && health.state == v1::RUN_STATE_SUCCEEDED) {
        Resolve(*open, health.at, fmt::format("run {} succeeded", health.run));
      }
      return;
    }
    const std::string summary = fmt::format("{}: {}", HowItEnded(health.state), health.reason);
    if (open == nullptr) {
      AlertRow& alert = OpenAlert({.key = JobKey(name),
                                   .name = fmt::format("job/{}", name),
                                   .started_at = health.at,
                                   .summary = summary,
                                   .description = job.description,
                                   .runbook = job.runbook},
                                  health.run);
      Fire(alert, v1::SEVERITY_CRITICAL, health.at,
           fmt::format("run {} {}", health.run, HowItEnded(health.state)));
    } else if (open->summary != summary) {
      open->summary = summary;
      Note(*open, health.at, "again",
           fmt::format("run {} {}", health.run, HowItEnded(health.state)));
    }
  }

  void FollowLate(const std::string& name, const JobNote& job) {
    AlertRow* open = Find(LateKey(name));
    const bool late = now_ > job.waits_since + kLateAfter;
    if (open != nullptr && !late) return Resolve(*open, now_, "it waits no longer");
    if (open != nullptr || !late) return;
    AlertRow& alert = OpenAlert({.key = LateKey(name),
                                 .name = fmt::format("job/{} late", name),
                                 .started_at = job.waits_since,
                                 .summary = job.waits_why,
                                 .description = job.description,
                                 .runbook = job.runbook},
                                "late");
    Fire(alert, v1::SEVERITY_WARNING, now_,
         fmt::format("due at {} and has not begun", TimeText(job.waits_since)));
  }

  void FollowBackups(const std::string& name, const JobNote& job) {
    AlertRow* open = Find(BackupKey(name));
    const BackupHealth health =
        job.backup.has_value()
            ? JudgeBackups({*job.backup, job.backups, job.keep_problem, job.changed_at}, now_)
            : BackupHealth{};
    if (health.severity == v1::SEVERITY_UNSPECIFIED) {
      if (open != nullptr) Resolve(*open, now_, "its backups are well");
      return;
    }
    if (open == nullptr) {
      AlertRow& alert = OpenAlert({.key = BackupKey(name),
                                   .name = fmt::format("backup/{}", name),
                                   .started_at = now_,
                                   .summary = health.summary,
                                   .description = job.description,
                                   .runbook = job.runbook},
                                  "");
      return Fire(alert, health.severity, now_, health.summary);
    }
    const bool changed = open->severity != health.severity;
    if (!changed && open->summary == health.summary) return;
    open->severity = health.severity;
    open->summary = health.summary;
    Note(*open, now_, changed ? "severity" : "again", health.summary);
    if (changed && open->told) Tell(*open, "changed");
  }

  void RaiseAbsence(const std::string& name, const AgentPresence& agent) {
    if (!agent.absent || agent.revoked || Find(AbsentKey(name)) != nullptr) return;
    AlertRow& alert =
        OpenAlert({.key = AbsentKey(name),
                   .name = fmt::format("agent/{} absent", name),
                   .agent = name,
                   .started_at = agent.silent_since,
                   .summary = fmt::format("nothing heard since {}", TimeText(agent.silent_since))},
                  "");
    Fire(alert, v1::SEVERITY_CRITICAL, now_, "no session for longer than the grace");
  }

  // By what is open: of thousands of agents hardly any is absent.
  void EndAbsences() {
    for (auto at = open_.lower_bound(std::string(kAbsentKey)); at != open_.end();) {
      AlertRow& alert = (at++)->second.row;
      if (!alert.key.starts_with(kAbsentKey)) return;
      const auto agent = facts_.agents.find(alert.agent);
      if (agent == facts_.agents.end()) continue;
      if (agent->second.connected && !agent->second.revoked)
        Resolve(alert, now_, "connected again");
    }
  }

  void Follow(const TransitionRow& transition) {
    const auto check = facts_.checks.find(transition.check_id);
    const auto agent = facts_.agents.find(transition.agent);
    if (check == facts_.checks.end() || agent == facts_.agents.end() || agent->second.revoked ||
        facts_.removed.contains({transition.agent, transition.check_id})) {
      return;  // not asked any more: what is open about it resolves below
    }
    if (transition.to == v1::CHECK_STATUS_NO_DATA) {
      if (IsLate(transition)) RaiseNoData(transition, check->second);
      return;
    }
    if (AlertRow* late = Find(NoDataKey(transition.agent, transition.check_id))) {
      Resolve(*late, transition.at, "results come again");
    }
    FollowResult(transition, check->second);
  }

  void RaiseNoData(const TransitionRow& transition, const CheckNote& check) {
    const std::string key = NoDataKey(transition.agent, transition.check_id);
    if (Find(key) != nullptr) return;
    AlertRow& alert = OpenCheckAlert(key, transition, check);
    alert.name = fmt::format("check/{} on {}: no data", check.name, transition.agent);
    alert.summary = transition.reason;
    Fire(alert, v1::SEVERITY_WARNING, transition.at, transition.reason);
  }

  void FollowResult(const TransitionRow& transition, const CheckNote& check) {
    AlertRow* alert = Find(CheckKey(transition.agent, transition.check_id));
    if (transition.to == v1::CHECK_STATUS_OK) {
      if (alert != nullptr && transition.hard) ResolveByOk(*alert, transition);
      return;
    }
    if (alert == nullptr) {
      alert = &OpenCheckAlert(CheckKey(transition.agent, transition.check_id), transition, check);
      alert->name = fmt::format("check/{} on {}", check.name, transition.agent);
      alert->severity = SeverityOf(transition.to);
      if (!transition.hard) Note(*alert, transition.at, "pending", transition.reason);
    }
    if (!transition.hard) return FollowSoft(*alert, transition);
    FollowHard(*alert, transition);
  }

  // A suspicion changes what a pending alert shows, never a firing one.
  void FollowSoft(AlertRow& alert, const TransitionRow& transition) {
    if (alert.state != v1::ALERT_STATE_PENDING) return;
    alert.severity = SeverityOf(transition.to);
    alert.summary = transition.summary;
    open_.at(alert.key).changed = true;
  }

  void FollowHard(AlertRow& alert, const TransitionRow& transition) {
    const v1::Severity severity = SeverityOf(transition.to);
    alert.summary = transition.summary;
    open_.at(alert.key).changed = true;
    if (alert.state == v1::ALERT_STATE_PENDING) {
      return Fire(alert, severity, transition.at, transition.reason);
    }
    if (alert.severity == severity) return;
    Note(alert, transition.at, "severity",
         fmt::format("{} to {}: {}", SeverityName(alert.severity), SeverityName(severity),
                     transition.reason));
    alert.severity = severity;
    if (alert.told) Tell(alert, "changed");
  }

  void ResolveByOk(AlertRow& alert, const TransitionRow& transition) {
    const bool confirmed = alert.state == v1::ALERT_STATE_FIRING;
    if (confirmed) alert.summary = transition.summary;
    Resolve(alert, transition.at,
            confirmed ? transition.reason : fmt::format("false alarm: {}", transition.reason));
  }

  std::string WhyNotAsked(const AlertRow& alert) const {
    if (const std::string_view replica = ReplicaOf(alert); !replica.empty()) {
      const bool known = facts_.replicas.contains(std::string(replica));
      return known ? "" : fmt::format("replica {} was forgotten", replica);
    }
    if (const std::string_view job = JobOf(alert); !job.empty()) {
      const bool known = facts_.jobs.contains(std::string(job));
      return known ? "" : fmt::format("job {} was deleted", job);
    }
    const auto agent = facts_.agents.find(alert.agent);
    if (agent == facts_.agents.end()) return fmt::format("agent {} is gone", alert.agent);
    if (agent->second.revoked) return fmt::format("agent {} was revoked", alert.agent);
    const std::optional<uint32_t> check = CheckOf(alert);
    if (!check.has_value()) return "";
    if (!facts_.checks.contains(*check)) return fmt::format("check {} was deleted", alert.check);
    if (facts_.removed.contains({alert.agent, *check})) {
      return fmt::format("check {} no longer runs on {}", alert.check, alert.agent);
    }
    return "";
  }

  void ResolveWhatIsNotAsked() {
    std::vector<std::pair<std::string, std::string>> moot;
    for (const auto& [key, entry] : open_) {
      if (std::string why = WhyNotAsked(entry.row); !why.empty())
        moot.emplace_back(key, std::move(why));
    }
    for (auto& [key, why] : moot) Resolve(*Find(key), now_, std::move(why));
  }

  void TellTheUntold() {
    for (auto& [key, entry] : open_) {
      AlertRow& alert = entry.row;
      if (alert.state != v1::ALERT_STATE_FIRING || alert.told) continue;
      if (!alert.inhibited_by.empty() && Find(AbsentKey(alert.agent)) == nullptr) {
        alert.inhibited_by.clear();
        Note(alert, now_, "released", fmt::format("agent {} is back", alert.agent));
      }
      TellRaise(alert);
      if (alert.told) entry.changed = true;
    }
  }

  const AlertFacts& facts_;
  const absl::Time now_;
  std::map<std::string, Entry> open_;
  AlertDecision decision_;
};

}  // namespace

AlertDecision DecideAlerts(const AlertFacts& facts, absl::Time now) {
  return Round(facts, now).Run();
}

bool IsEmpty(const AlertDecision& decision) {
  return decision.new_cursor == decision.expected_cursor && decision.alerts.empty() &&
         decision.events.empty() && decision.outbox.empty();
}

v1::Alert AlertMessage(const AlertRow& row) {
  v1::Alert alert;
  alert.set_id(row.id);
  alert.set_name(row.name);
  alert.set_severity(row.severity);
  alert.set_state(row.state);
  alert.set_check(row.check);
  alert.set_agent(row.agent);
  *alert.mutable_started_at() = wire::ToProto(row.started_at);
  if (row.state == v1::ALERT_STATE_RESOLVED) {
    *alert.mutable_resolved_at() = wire::ToProto(row.resolved_at);
  }
  alert.set_summary(row.summary);
  alert.set_inhibited_by(row.inhibited_by);
  alert.set_description(row.description);
  alert.set_runbook(row.runbook);
  return alert;
}

}  // namespace muster::control
