#include "agent/app.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "agent/checks/checker.h"
#include "agent/jobs/executor.h"
#include "agent/jobs/run_journal.h"
#include "agent/link/link.h"
#include "agent/link/renewal.h"
#include "agent/link/witness.h"
#include "agent/policy/policy.h"
#include "agent/probes/probe.h"
#include "agent/reports/report_taker.h"
#include "agent/spool/recorder.h"
#include "agent/spool/spool.h"
#include "agent/tasks/task.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/program/pages.h"
#include "lib/program/program.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr char kPolicyPlace[] = "/etc/muster/policy.yaml";
constexpr absl::Duration kStopChecksWithin = absl::Seconds(1);
constexpr absl::Duration kStopJobsWithin = absl::Seconds(2);
constexpr absl::Duration kFlushWithin = absl::Seconds(1);
constexpr absl::Duration kHousekeeping = absl::Seconds(5);
constexpr absl::Duration kLookForReports = absl::Milliseconds(500);
// By then every check has run once and the first plan is in force.
constexpr absl::Duration kStartIsOver = absl::Seconds(20);
constexpr absl::Duration kReleaseEvery = absl::Hours(1);
constexpr absl::Duration kRenewWithin = absl::Seconds(10);

std::string Line(const std::string& path) {
  const StatusOr<std::string> text = ReadFile(path);
  return text.ok() ? std::string(Trim(*text)) : "";
}

std::map<std::string, std::string> HostFacts() {
  std::map<std::string, std::string> facts;
  utsname name{};
  if (::uname(&name) == 0) {
    facts["kernel"] = name.release;
    facts["architecture"] = name.machine;
    facts["host"] = name.nodename;
  }
  facts["processors"] = fmt::format("{}", std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  const StatusOr<std::string> release = ReadFile("/etc/os-release");
  if (!release.ok()) return facts;
  constexpr std::string_view kName = "PRETTY_NAME=";
  for (const std::string_view line : Split(*release, '\n')) {
    if (!line.starts_with(kName)) continue;
    std::string value(line.substr(kName.size()));
    std::erase(value, '"');
    facts["distribution"] = value;
  }
  return facts;
}

// Without the folder the agent does all else.
std::unique_ptr<ReportTaker> MakeReportTaker(const std::string& data, const Policy& policy,
                                             Recorder& recorder, const Clock& clock) {
  StatusOr<DropFolder> folder = DropFolder::Open(
      data, policy.TakesReports() ? DropFolder::For::kAnybody : DropFolder::For::kOwner);
  if (folder.ok())
    return std::make_unique<ReportTaker>(*std::move(folder), policy, recorder, clock);
  LogError("the agent takes no reports of muster-agent exec", {{"error", folder.status()}});
  return nullptr;
}

StatusOr<Policy> FindPolicy(const std::string& path) {
  if (!path.empty()) return Policy::Load(path);
  if (FileExists(kPolicyPlace)) return Policy::Load(kPolicyPlace);
  return Policy::Default();
}

absl::Time FirstRenewal(const Membership& membership) {
  const StatusOr<RenewalTimes> times = TimesOf(membership.identity);
  return times.ok() ? times->due : absl::InfinitePast();
}

v1::Record PlanTakenRecord(const std::string& hash, absl::Time at) {
  v1::Record record;
  record.mutable_plan_taken()->set_plan_hash(hash);
  *record.mutable_plan_taken()->mutable_at() = wire::ToProto(at);
  return record;
}

// Members in the order in which they depend on one another: the link goes first, the log last.
class RunningApp final : public App {
 public:
  RunningApp(const RunOptions& options, const Config& config, FolderLock lock,
             Membership membership, Policy policy, std::unique_ptr<Spool> spool,
             std::unique_ptr<RunJournal> journal, v1::Plan plan)
      : data_(options.data),
        lock_(std::move(lock)),
        membership_(std::move(membership)),
        policy_(std::move(policy)),
        servers_set_(!config.servers.empty()),
        next_renewal_(FirstRenewal(membership_)),
        random_(SystemRandom()),
        spool_(std::move(spool)),
        journal_(std::move(journal)),
        witness_(data_ + "/witness.pb", membership_.identity.roots_pem),
        link_(std::make_unique<Link>(*spool_, clock_, *random_, MakeLinkOptions(plan))),
        recorder_(std::make_unique<Recorder>(*spool_, clock_, RecorderOptions{},
                                             [this](Urgency urgency) { link_->Notify(urgency); })),
        checker_(
            clock_,
            CheckerOptions{membership_.name, config.probe_threads, config.probe_threads + 48},
            [this](const v1::Probe& spec) { return MakeProbe(spec, policy_); },
            [this](v1::CheckResult result, Novelty novelty) {
              Record(std::move(result), novelty);
            }),
        executor_(
            *journal_, *recorder_, *spool_,
            [this](const v1::JobSpec& spec) { return MakeTask(spec, policy_); }, clock_,
            ExecutorOptions{.at_once = config.jobs_at_once}),
        report_taker_(MakeReportTaker(data_, policy_, *recorder_, clock_)),
        reports_("reports", kLookForReports,
                 [this] {
                   if (report_taker_ != nullptr) report_taker_->Look();
                 }),
        housekeeping_("housekeeping", kHousekeeping, [this] {
          KeepServers();
          RenewWhenDue();
          ReleasePagesWhenDue();
        }) {
    checker_.Apply(plan);
    ready_.Set();
  }

  bool Stop() override {
    housekeeping_.Stop();
    reports_.Stop();
    executor_.AskToStop();
    const bool checks_ended = checker_.Stop(kStopChecksWithin);
    const bool runs_ended = executor_.Stop(kStopJobsWithin);
    // The recorder writes what waits before the link sends its last.
    recorder_->Stop();
    link_->Stop(kFlushWithin);
    return checks_ended && runs_ended;
  }

 private:
  // A plan that comes before everything is built waits for it.
  class Ready {
   public:
    void Set() {
      absl::MutexLock lock(&mutex_);
      set_ = true;
    }
    void Wait() {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&set_));
    }

   private:
    absl::Mutex mutex_;
    bool set_ ABSL_GUARDED_BY(mutex_) = false;
  };

  LinkOptions MakeLinkOptions(const v1::Plan& plan) {
    LinkOptions options;
    options.servers = membership_.servers;
    options.identity = membership_.identity;
    options.version = MUSTER_VERSION;
    options.boot_id = Line("/proc/sys/kernel/random/boot_id");
    options.plan_hash = plan.hash();
    options.facts = HostFacts();
    options.on_plan = [this](const v1::Plan& next) { return TakePlan(next); };
    options.on_assignments = [this](const v1::Assignments& assignments) {
      ready_.Wait();
      executor_.Take(assignments);
    };
    options.on_server_time = [this](absl::Time now) {
      ready_.Wait();
      executor_.TakeServerTime(now);
    };
    options.on_renew = [this] { AskRenewal(); };
    options.learn_servers = !servers_set_;
    options.on_servers = [this](const auto& servers) { NoteServers(servers); };
    options.witnessed = [this] { return witness_.held(); };
    options.on_checkpoint = [this](const v1::Checkpoint& next) { TakeCheckpoint(next); };
    return options;
  }

  Status TakePlan(const v1::Plan& plan) {
    ready_.Wait();
    checker_.Apply(plan);
    // On a full disk the plan is in force all the same; a restart asks for it again.
    if (const Status written = WritePlan(data_, plan); !written.ok()) {
      LogWarning("the plan cannot be stored", {{"error", written}});
    }
    LogInfo("took a plan", {{"checks", plan.checks_size()}});
    recorder_->Add(PlanTakenRecord(plan.hash(), clock_.Now()), Urgency::kUrgent);
    return OkStatus();
  }

  void TakeCheckpoint(const v1::Checkpoint& checkpoint) {
    const Status taken = witness_.Take(checkpoint);
    if (!taken.ok()) LogError("a checkpoint of the audit chain is not taken", {{"error", taken}});
  }

  void Record(v1::CheckResult result, Novelty novelty) {
    v1::Record record;
    *record.mutable_result() = std::move(result);
    recorder_->Add(std::move(record),
                   novelty == Novelty::kNews ? Urgency::kUrgent : Urgency::kSteady);
  }

  void AskRenewal() {
    {
      absl::MutexLock lock(&renewal_mutex_);
      renewal_asked_ = true;
    }
    ready_.Wait();
    housekeeping_.Wake();
  }

  void NoteServers(const std::vector<std::string>& servers) {
    {
      absl::MutexLock lock(&renewal_mutex_);
      learned_servers_ = servers;
    }
    ready_.Wait();
    housekeeping_.Wake();
  }

  // Remembered over a restart, so that it finds whichever replica is there then.
  void KeepServers() {
    ready_.Wait();
    std::vector<std::string> learned;
    {
      absl::MutexLock lock(&renewal_mutex_);
      learned.swap(learned_servers_);
    }
    if (learned.empty()) return;
    membership_.servers = std::move(learned);
    const Status kept = WriteMembership(data_, membership_);
    if (!kept.ok()) return LogWarning("the servers cannot be remembered", {{"error", kept}});
    LogInfo("learned where the control plane is", {{"servers", membership_.servers.size()}});
  }

  void RenewWhenDue() {
    ready_.Wait();
    const absl::Time now = clock_.Now();
    {
      absl::MutexLock lock(&renewal_mutex_);
      if (!renewal_asked_ && now < next_renewal_) return;
      renewal_asked_ = false;
    }
    const StatusOr<RenewalTimes> times = TimesOf(membership_.identity);
    next_renewal_ = now + (times.ok() ? times->again : absl::Minutes(1));
    const bool expired = times.ok() && now >= times->expired_at;
    StatusOr<Renewed> renewed =
        expired ? RenewExpired(membership_.enroll, membership_.identity, clock_, kRenewWithin)
                : Renew(link_->counts().server, membership_.identity, now, kRenewWithin);
    const Status kept = renewed.ok() ? Keep(std::move(*renewed)) : renewed.status();
    if (!kept.ok()) return LogWarning("the certificate is not renewed", {{"error", kept}});
    LogInfo("renewed the certificate", {{"next", TimeText(next_renewal_)}});
  }

  void ReleasePagesWhenDue() {
    if (clock_.Uptime() < next_release_) return;
    next_release_ = clock_.Uptime() + kReleaseEvery;
    ReleaseStartPages();
  }

  Status Keep(Renewed renewed) {
    Membership next = membership_;
    next.identity = std::move(renewed.identity);
    if (!renewed.servers.empty() && !servers_set_) next.servers = std::move(renewed.servers);
    MUSTER_RETURN_IF_ERROR(WriteMembership(data_, next));
    membership_ = std::move(next);
    link_->Replace(membership_.identity, membership_.servers);
    MUSTER_ASSIGN_OR_RETURN(const RenewalTimes times, TimesOf(membership_.identity));
    next_renewal_ = times.due;
    return OkStatus();
  }

  const Clock& clock_ = SystemClock();
  const std::string data_;
  const FolderLock lock_;
  Membership membership_;  // after the start of the renewal's thread alone
  const Policy policy_;
  const bool servers_set_;  // by the settings file: the control plane's word does not count
  absl::Duration next_release_ = SystemClock().Uptime() + kStartIsOver;
  absl::Time next_renewal_;  // after the start of the renewal's thread alone
  const std::unique_ptr<Random> random_;
  const std::unique_ptr<Spool> spool_;
  const std::unique_ptr<RunJournal> journal_;
  Witness witness_;  // of the link's thread
  Ready ready_;
  absl::Mutex renewal_mutex_;
  bool renewal_asked_ ABSL_GUARDED_BY(renewal_mutex_) = false;
  std::vector<std::string> learned_servers_ ABSL_GUARDED_BY(renewal_mutex_);  // not kept yet
  const std::unique_ptr<Link> link_;
  const std::unique_ptr<Recorder> recorder_;
  Checker checker_;
  Executor executor_;
  const std::unique_ptr<ReportTaker> report_taker_;
  exec::PeriodicLoop reports_;
  exec::PeriodicLoop housekeeping_;
};

}  // namespace

StatusOr<Config> ReadSettings(const RunOptions& options) {
  Config config;
  if (!options.config_file.empty()) {
    MUSTER_ASSIGN_OR_RETURN(config, ReadConfig(options.config_file));
  }
  if (!options.policy_file.empty()) config.policy = options.policy_file;
  if (!options.log_level.empty()) {
    MUSTER_ASSIGN_OR_RETURN(config.log_level, ParseLogLevel(options.log_level));
  }
  return config;
}

StatusOr<std::unique_ptr<App>> App::Start(const RunOptions& options, const Config& config) {
  MUSTER_ASSIGN_OR_RETURN(Membership membership, ReadMembership(options.data));
  if (!config.servers.empty()) membership.servers = config.servers;
  if (!config.enroll.empty()) membership.enroll = config.enroll;
  if (membership.servers.empty()) {
    return FailedPrecondition("{}/agent.yaml names no servers: add servers: [HOST:7443]",
                              options.data);
  }
  MUSTER_ASSIGN_OR_RETURN(FolderLock lock, FolderLock::Take(options.data, "muster-agent"));
  MUSTER_ASSIGN_OR_RETURN(Policy policy, FindPolicy(config.policy));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Spool> spool,
                          Spool::Open(options.data + "/log.db", config.spool, SystemClock()));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<RunJournal> journal,
                          RunJournal::Open(options.data + "/runs.db"));
  LogInfo("the agent runs", {{"agent", membership.name},
                             {"version", MUSTER_VERSION},
                             {"log_epoch", spool->position().epoch},
                             {"written", spool->position().written}});
  return std::unique_ptr<App>(std::make_unique<RunningApp>(
      options, config, std::move(lock), std::move(membership), std::move(policy), std::move(spool),
      std::move(journal), ReadPlan(options.data)));
}

}  // namespace muster::agent
