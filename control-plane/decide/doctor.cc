#include "control-plane/decide/doctor.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "control-plane/decide/leadership.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

using v1::Finding;

constexpr absl::Duration kDay = absl::Hours(24);

class Report {
 public:
  void Add(Finding::Level level, std::string subject, std::string message,
           std::string remedy = "") {
    Finding finding;
    finding.set_level(level);
    finding.set_subject(std::move(subject));
    finding.set_message(std::move(message));
    finding.set_remedy(std::move(remedy));
    findings_.push_back(std::move(finding));
  }
  void Ok(std::string subject, std::string message) {
    Add(Finding::LEVEL_OK, std::move(subject), std::move(message));
  }
  void Warn(std::string subject, std::string message, std::string remedy) {
    Add(Finding::LEVEL_WARNING, std::move(subject), std::move(message), std::move(remedy));
  }
  void Fail(std::string subject, std::string message, std::string remedy) {
    Add(Finding::LEVEL_FAILED, std::move(subject), std::move(message), std::move(remedy));
  }
  size_t size() const { return findings_.size(); }
  std::vector<Finding> Take() { return std::move(findings_); }

 private:
  std::vector<Finding> findings_;
};

void Authority(const DoctorFacts& facts, absl::Time now, Report& report) {
  constexpr char kSubject[] = "certificate authority";
  constexpr char kRemedy[] =
      "set up a new control plane with 'muster-control init' and join the agents to it";
  const absl::Duration left = facts.authority_expires_at - now;
  if (left <= absl::ZeroDuration()) {
    report.Fail(kSubject, fmt::format("expired at {}", TimeText(facts.authority_expires_at)),
                kRemedy);
  } else if (left < 90 * kDay) {
    report.Warn(kSubject, fmt::format("expires in {}", ShortDuration(left)), kRemedy);
  } else {
    report.Ok(kSubject, left == absl::InfiniteDuration()
                            ? "valid"
                            : fmt::format("valid until {}", TimeText(facts.authority_expires_at)));
  }
}

void Replicas(const DoctorFacts& facts, Report& report) {
  if (facts.replicas.empty()) return;
  size_t live = 0;
  std::set<std::string> versions;
  for (const ReplicaRow& replica : facts.replicas) {
    const std::string subject = fmt::format("replica {}", replica.id);
    const v1::Replica seen =
        ReplicaMessage(replica, facts.lease, facts.database_now, facts.leadership);
    if (seen.state() == v1::Replica::STATE_LIVE) {
      ++live;
      versions.insert(replica.version);
    } else if (seen.state() == v1::Replica::STATE_DRAINING) {
      report.Warn(subject, "is stopping, and sends its agents elsewhere",
                  "nothing, if you stopped it: it ends by itself");
    } else {
      report.Fail(
          subject, fmt::format("lost: not seen since {}", TimeText(replica.seen_at)),
          fmt::format("start it again, or forget it: musterctl delete replica {}", replica.id));
    }
  }
  const bool led = !facts.lease.holder.empty() && facts.lease.until > facts.database_now;
  if (!led) {
    report.Fail(
        "leader", "no replica leads, so nobody is told of anything",
        "ask again in ten seconds; then look at the replicas' logs for 'the heart misses a beat'");
  } else {
    report.Ok("leader",
              fmt::format("{}, in term {}; {} of {} replicas are live", facts.lease.holder,
                          facts.lease.epoch.value, live, facts.replicas.size()));
  }
  if (versions.size() > 1) {
    report.Warn("versions", fmt::format("the replicas run {} versions", versions.size()),
                "finish the upgrade: musterctl get replicas shows who runs which");
  }
}

void Presence(const DoctorFacts& facts, const AgentRow& agent, const std::string& subject,
              absl::Time now, Report& report) {
  if (agent.connected) return;
  if (agent.last_seen_at < absl::UnixEpoch()) {
    report.Warn(subject, "joined but has never connected",
                "start 'muster-agent run' on the host and look at its log");
    return;
  }
  const absl::Duration away = now - std::max(agent.disconnected_at, facts.serving_since);
  if (away < absl::Seconds(45)) {
    report.Warn(subject, fmt::format("not connected for {}", ShortDuration(away)),
                "nothing yet: agents come back by themselves; ask again in a minute");
    return;
  }
  report.Fail(subject, fmt::format("absent since {}", TimeText(agent.disconnected_at)),
              "look at 'systemctl status muster-agent' on the host, and at the way from there to "
              "port 7443");
}

void Certificate(const AgentRow& agent, const std::string& subject, absl::Time now,
                 Report& report) {
  const absl::Duration left = agent.certificate_expires_at - now;
  if (left <= absl::ZeroDuration()) {
    report.Fail(
        subject,
        fmt::format("its certificate expired at {}", TimeText(agent.certificate_expires_at)),
        fmt::format("join it again: 'musterctl token create --agent {}', then 'muster-agent join'",
                    agent.name));
  } else if (left < absl::Hours(12)) {
    report.Warn(
        subject, fmt::format("its certificate expires in {}", ShortDuration(left)),
        "agents renew while they are connected: look at the agent's log for why it could not");
  }
}

void Skew(const AgentRow& agent, const std::string& subject, Report& report) {
  const absl::Duration skew = absl::AbsDuration(agent.clock_skew);
  if (skew < absl::Seconds(2)) return;
  report.Warn(subject, fmt::format("its clock is {} off", ShortDuration(skew)),
              "synchronise the host's clock: 'timedatectl set-ntp true'");
}

void Agents(const DoctorFacts& facts, absl::Time now, Report& report) {
  size_t well = 0;
  size_t all = 0;
  for (const AgentRow& agent : facts.agents) {
    if (agent.revoked) continue;
    ++all;
    const size_t before = report.size();
    const std::string subject = fmt::format("agent {}", agent.name);
    Presence(facts, agent, subject, now, report);
    Certificate(agent, subject, now, report);
    Skew(agent, subject, report);
    if (report.size() == before) ++well;
  }
  if (all == 0) {
    report.Warn("agents", "there are none",
                "'musterctl token create --agent NAME', then 'muster-agent join' on the host");
  } else {
    report.Ok("agents", fmt::format("{} of {} are connected and well", well, all));
  }
}

void AuditWitnesses(const DoctorFacts& facts, Report& report) {
  size_t agree = 0;
  uint64_t newest = 0;
  const size_t before = report.size();
  for (const WitnessFact& fact : Narrow(facts.witnesses)) {
    const bool own = fact.holder.empty();
    if (fact.verdict.testimony == Testimony::kAgrees) {
      agree += own ? 0 : 1;
      newest = std::max(newest, own ? 0 : fact.sequence);
      continue;
    }
    const std::string holder = own ? "this control plane" : fmt::format("agent {}", fact.holder);
    report.Fail("audit witnesses",
                fmt::format("{} holds a checkpoint of entry {}, signed at {}: {}", holder,
                            fact.sequence, TimeText(fact.at), Text(fact.verdict)),
                fmt::format("somebody changed the audit chain, or the store is an older copy: "
                            "compare it with a backup; once that is explained, {}",
                            own ? "restart the control plane"
                                : "remove witness.pb from the agent's data folder and restart the "
                                  "agent"));
  }
  if (report.size() > before) return;
  report.Ok("audit witnesses",
            agree == 0 ? "no agent has shown a checkpoint of the audit chain so far"
                       : fmt::format("agents whose checkpoint agrees with the chain: {}, the "
                                     "newest of entry {}",
                                     agree, newest));
}

void Outbox(const DoctorFacts& facts, absl::Time now, Report& report) {
  const AlertStore::OutboxCounts& outbox = facts.outbox;
  constexpr char kRemedy[] = "'musterctl alert explain ID' shows each delivery and its last error";
  if (outbox.failed > 0) {
    report.Fail("outbox", fmt::format("{} notifications were given up", outbox.failed), kRemedy);
  }
  const bool stuck = outbox.waiting > 0 && now - outbox.oldest_waiting > absl::Minutes(1);
  if (stuck) {
    report.Warn("outbox",
                fmt::format("{} notifications wait, the oldest for {}", outbox.waiting,
                            ShortDuration(now - outbox.oldest_waiting)),
                kRemedy);
  }
  if (outbox.failed == 0 && !stuck) report.Ok("outbox", "every notification was accepted");
}

void Receivers(const DoctorFacts& facts, Report& report) {
  if (facts.receivers > 0) {
    report.Ok("receivers", fmt::format("{} are told of alerts", facts.receivers));
  } else {
    report.Warn("receivers", "there are none, so nobody is told of any alert",
                "apply a document of kind Receiver: 'musterctl apply -f receiver.yaml'");
  }
}

void Disk(const DoctorFacts& facts, Report& report) {
  if (!facts.disk_free_bytes.has_value() || facts.disk_size_bytes.value_or(0) == 0) return;
  const uint64_t free = *facts.disk_free_bytes;
  const double share = static_cast<double>(free) / static_cast<double>(*facts.disk_size_bytes);
  const std::string message = fmt::format("{} MiB are free ({:.0f} %)", free >> 20U, share * 100);
  constexpr char kRemedy[] =
      "free or add space where the store lies; results are refused when it is full";
  constexpr uint64_t kLow = uint64_t{256} << 20U;
  constexpr uint64_t kSome = uint64_t{2} << 30U;
  if (free < kLow) {
    report.Fail("disk", message, kRemedy);
  } else if (free < kSome && share < 0.1) {
    report.Warn("disk", message, kRemedy);
  } else {
    report.Ok("disk", message);
  }
}

void Redis(const DoctorFacts& facts, Report& report) {
  if (!facts.redis.has_value()) return;
  const RedisFacts& redis = *facts.redis;
  if (redis.up) {
    report.Ok("redis", fmt::format("hints between replicas go through {}", redis.where));
    return;
  }
  report.Warn(
      "redis",
      fmt::format("{} is away{}; nothing is lost, but what one replica changed the others see up "
                  "to two seconds later",
                  redis.where, redis.problem.empty() ? "" : ": " + redis.problem),
      "start Redis, or mend the way, the password or the rights of its user; the replicas come "
      "back by themselves");
}

}  // namespace

std::vector<v1::Finding> Diagnose(const DoctorFacts& facts, absl::Time now) {
  Report report;
  Authority(facts, now, report);
  Replicas(facts, report);
  Agents(facts, now, report);
  AuditWitnesses(facts, report);
  Outbox(facts, now, report);
  Receivers(facts, report);
  if (facts.checks == 0) {
    report.Warn("checks", "there are none, so nothing is looked at",
                "apply a document of kind Check: 'musterctl apply -f check.yaml'");
  }
  Disk(facts, report);
  Redis(facts, report);
  return report.Take();
}

}  // namespace muster::control
