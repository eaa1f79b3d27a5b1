#include "tests/bench/fleet/check.h"

#include <algorithm>
#include <map>
#include <set>

#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "tests/bench/fleet/replay.h"

namespace muster::bench {
namespace {

constexpr size_t kMostFindings = 20;
constexpr uint32_t kTransitionsAPage = 10'000;

using Transitions = std::map<std::string, std::map<uint32_t, std::vector<control::TransitionRow>>>;

StatusOr<Transitions> ReadTransitions(control::Store& store) {
  Transitions all;
  uint64_t after = 0;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(std::vector<control::TransitionRow> page,
                            store.history().TransitionsAfter(after, kTransitionsAPage));
    if (page.empty()) return all;
    after = page.back().id;
    for (control::TransitionRow& row : page) {
      all[row.agent][row.check_id].push_back(std::move(row));
    }
  }
}

Journalled FromResult(const wire::ResultRow& row) {
  return {row.sequence, row.check_id, row.status, absl::ToUnixMicros(row.observed_at)};
}

Journalled FromPlanTaken(const v1::Record& record) {
  return {record.sequence(), 0, v1::CHECK_STATUS_UNSPECIFIED,
          absl::ToUnixMicros(wire::FromProto(record.plan_taken().at()))};
}

bool SameContent(const Journalled& a, const Journalled& b) {
  return a.check_id == b.check_id && a.status == b.status && a.observed_at_us == b.observed_at_us;
}

// What the store holds of one log, record by record.
class StoredLog {
 public:
  Status Take(const control::Segment& segment) {
    MUSTER_ASSIGN_OR_RETURN(const wire::DecodedBatch batch, wire::DecodeBatch(segment.payload));
    for (const wire::ResultRow& row : batch.results) records_.push_back(FromResult(row));
    for (const v1::Record& record : batch.others) {
      if (record.has_gap()) {
        gaps_.push_back({record.gap().first(), record.gap().last()});
      } else {
        records_.push_back(FromPlanTaken(record));
      }
    }
    return OkStatus();
  }
  // By sequence; those of one sequence stay side by side.
  void Sort() {
    std::stable_sort(records_.begin(), records_.end(),
                     [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  }
  const std::vector<Journalled>& records() const { return records_; }
  const std::vector<SequenceRange>& gaps() const { return gaps_; }
  uint64_t last() const {
    uint64_t last = records_.empty() ? 0 : records_.back().sequence;
    for (const SequenceRange& gap : gaps_) last = std::max(last, gap.last);
    return last;
  }

 private:
  std::vector<Journalled> records_;
  std::vector<SequenceRange> gaps_;
};

bool Covers(const std::vector<SequenceRange>& gaps, uint64_t sequence) {
  return std::any_of(gaps.begin(), gaps.end(), [&](const SequenceRange& gap) {
    return gap.first <= sequence && sequence <= gap.last;
  });
}

class Checker {
 public:
  Checker(control::Store& store, const JournalContents& journal)
      : store_(store),
        journal_(journal),
        changed_(journal.changed.begin(), journal.changed.end()) {}

  StatusOr<Verdict> Run() {
    MUSTER_ASSIGN_OR_RETURN(transitions_, ReadTransitions(store_));
    for (const auto& [agent, logs] : journal_.agents) {
      MUSTER_RETURN_IF_ERROR(CheckAgent(agent, logs));
    }
    return std::move(verdict_);
  }

 private:
  Status CheckAgent(const std::string& agent, const std::vector<JournalledLog>& logs) {
    ++verdict_.agents;
    std::map<std::string, StoredLog> stored;
    Status readable;
    MUSTER_RETURN_IF_ERROR(store_.history().ReadSegments(
        agent, absl::UnixEpoch(), absl::FromUnixSeconds(32'503'680'000),
        [&](const control::Segment& segment) {
          readable = stored[segment.log_epoch].Take(segment);
          return readable.ok();
        }));
    MUSTER_RETURN_IF_ERROR(Annotate(readable, fmt::format("history of {}", agent)));
    std::map<uint32_t, std::vector<Journalled>> results;  // as stored, by check
    for (const JournalledLog& log : logs) {
      StoredLog& found = stored[log.epoch];
      found.Sort();
      CheckLog(agent, log, found);
      for (const Journalled& record : found.records()) {
        if (record.check_id != 0) results[record.check_id].push_back(record);
      }
    }
    CheckTransitions(agent, results, stored.size() > logs.size());
    return OkStatus();
  }

  void CheckLog(const std::string& agent, const JournalledLog& log, const StoredLog& stored) {
    ++verdict_.logs;
    verdict_.acknowledged += log.acknowledged;
    auto next = stored.records().begin();
    for (const Journalled& record : log.records) {
      if (record.check_id != 0) ++verdict_.generated;
      bool seen = false;
      for (; next != stored.records().end() && next->sequence == record.sequence; ++next) {
        CheckRecord(agent, log, record, *next, seen);
        seen = true;
      }
      if (!seen) CheckMissing(agent, log, record.sequence, stored);
    }
    for (; next != stored.records().end(); ++next) {
      Wrong(verdict_.unknown, agent, log, next->sequence, "is stored, and was never generated");
    }
  }

  void CheckRecord(const std::string& agent, const JournalledLog& log, const Journalled& record,
                   const Journalled& stored, bool seen) {
    if (stored.check_id != 0) ++verdict_.stored;
    if (seen) return Wrong(verdict_.doubled, agent, log, record.sequence, "is stored twice");
    if (SameContent(record, stored)) return;
    const bool another =
        std::any_of(log.records.begin(), log.records.end(),
                    [&](const Journalled& other) { return SameContent(other, stored); });
    if (another) {
      return Wrong(verdict_.out_of_order, agent, log, record.sequence,
                   "holds what another record of the log is");
    }
    Wrong(verdict_.altered, agent, log, record.sequence, "is not stored as it was generated");
  }

  void CheckMissing(const std::string& agent, const JournalledLog& log, uint64_t sequence,
                    const StoredLog& stored) {
    if (Covers(stored.gaps(), sequence) && Covers(log.gaps, sequence)) {
      ++verdict_.gaps;
    } else if (sequence <= log.acknowledged) {
      Wrong(verdict_.lost, agent, log, sequence, "was acknowledged and is not stored");
    } else if (sequence < stored.last()) {
      Wrong(verdict_.uncovered, agent, log, sequence,
            "is not stored, no gap of its agent covers it, and later ones are there");
    }
  }

  void CheckTransitions(const std::string& agent,
                        const std::map<uint32_t, std::vector<Journalled>>& results,
                        bool other_logs) {
    std::map<uint32_t, std::vector<control::TransitionRow>>& stored = transitions_[agent];
    std::set<uint32_t> checks;
    for (const auto& [id, found] : results) checks.insert(id);
    for (const auto& [id, found] : stored) checks.insert(id);
    for (const uint32_t id : checks) {
      for (const control::TransitionRow& row : stored[id]) {
        ++verdict_.transitions;
        if (row.to == v1::CHECK_STATUS_NO_DATA) ++verdict_.no_data;
      }
      const auto confirm = journal_.confirm.find(id);
      if (other_logs || changed_.contains(id) || confirm == journal_.confirm.end()) {
        ++verdict_.not_compared;
        continue;
      }
      const auto found = results.find(id);
      const Replay replay =
          ReplayTransitions(found == results.end() ? std::vector<Journalled>() : found->second,
                            confirm->second, stored[id]);
      verdict_.moved += replay.moved;
      if (replay.matches) continue;
      ++verdict_.wrong_histories;
      Say(fmt::format("{}: check {}: {}", agent, id, replay.difference));
    }
  }

  void Wrong(uint64_t& count, const std::string& agent, const JournalledLog& log, uint64_t sequence,
             std::string_view what) {
    ++count;
    Say(fmt::format("{}: log {}: record {} {}", agent, log.epoch, sequence, what));
  }
  void Say(std::string finding) {
    if (verdict_.findings.size() < kMostFindings) verdict_.findings.push_back(std::move(finding));
  }

  control::Store& store_;
  const JournalContents& journal_;
  const std::set<uint32_t> changed_;
  Transitions transitions_;
  Verdict verdict_;
};

}  // namespace

bool Verdict::good() const {
  return lost + uncovered + doubled + out_of_order + altered + unknown + wrong_histories == 0;
}

StatusOr<Verdict> CheckStore(control::Store& store, const JournalContents& journal) {
  return Checker(store, journal).Run();
}

std::string Table(const Verdict& v) {
  std::string text = fmt::format(
      "{} agents, {} logs: {} results generated, {} records acknowledged, {} results stored, {} "
      "records in gaps\n"
      "{} transitions, of them {} to NO_DATA, {} with a corrected time; {} checks not compared\n"
      "lost {}, uncovered by a gap {}, doubled {}, out of order {}, altered {}, unknown {}, "
      "wrong transitions {}\n",
      v.agents, v.logs, v.generated, v.acknowledged, v.stored, v.gaps, v.transitions, v.no_data,
      v.moved, v.not_compared, v.lost, v.uncovered, v.doubled, v.out_of_order, v.altered, v.unknown,
      v.wrong_histories);
  for (const std::string& finding : v.findings) text += finding + "\n";
  return text;
}

}  // namespace muster::bench
