#include "control-plane/store/batch_writer.h"

#include <deque>
#include <set>

#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/state_rows.h"
#include "lib/base/seeded_bugs.h"
#include "lib/wire/time.h"

namespace muster::control {

Status BatchWriter::Store(std::vector<Status>& outcomes) {
  MUSTER_RETURN_IF_ERROR(ReadLogs());
  outcomes.clear();
  for (const BatchCommit& batch : batches_) {
    outcomes.push_back(Expected(batch));
    if (outcomes.back().ok()) Take(batch);
  }
  if (taken_.empty()) return OkStatus();
  MUSTER_RETURN_IF_ERROR(MoveCursors());
  MUSTER_RETURN_IF_ERROR(PutSegments());
  MUSTER_RETURN_IF_ERROR(PutStatesAndTransitions());
  MUSTER_RETURN_IF_ERROR(PutGaps());
  return PutRunEvents();
}

Status BatchWriter::ReadLogs() {
  std::set<LogKey> wanted;
  for (const BatchCommit& batch : batches_) wanted.emplace(batch.agent, batch.log_epoch);
  ManyRows rows(
      "SELECT v.column1, v.column2, a.id, a.session_epoch, a.states_epoch, l.id, l.committed "
      "FROM (",
      2,
      ") AS v JOIN agents a ON a.name = v.column1 "
      "JOIN logs l ON l.agent_id = a.id AND l.log_epoch = v.column2");
  for (const auto& [agent, epoch] : wanted) rows.Add({agent, epoch});
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, rows.Query(t_));
  for (const sql::Row& row : found) {
    Log log;
    log.agent_id = row.Int(2);
    log.session_epoch = Unsigned(row.Int(3));
    log.states_epoch = Unsigned(row.Int(4));
    log.log_id = row.Int(5);
    log.stored = log.committed = Unsigned(row.Int(6));
    logs_[*wanted.find({row.Text(0), row.Text(1)})] = log;
  }
  return OkStatus();
}

Status BatchWriter::Expected(const BatchCommit& batch) const {
  const auto found = logs_.find({batch.agent, batch.log_epoch});
  if (found == logs_.end()) {
    return Aborted("agent {} has no log {} here; say Hello again", batch.agent, batch.log_epoch);
  }
  const Log& log = found->second;
  if (log.session_epoch != batch.session_epoch) {
    return Aborted("a newer session of {} has taken over", batch.agent);
  }
  if (log.committed != batch.expected_committed) {
    return Aborted("the log of {} is stored up to {}, the batch expects {}", batch.agent,
                   log.committed, batch.expected_committed);
  }
  if (log.states_epoch != batch.states_epoch) {
    return Aborted("the states of {} changed while the batch was judged; say Hello again",
                   batch.agent);
  }
  return OkStatus();
}

void BatchWriter::Take(const BatchCommit& batch) {
  Log& log = logs_.at({batch.agent, batch.log_epoch});
  log.committed = batch.last_sequence;
  log.last = &batch;
  taken_.emplace_back(&batch, &log);
}

Status BatchWriter::MoveCursors() {
  ManyRows rows("UPDATE logs SET committed = v.column3, observations = v.column4 FROM (", 4,
                ") AS v WHERE logs.id = v.column1 AND logs.committed = v.column2");
  int64_t wanted = 0;
  for (const auto& [key, log] : logs_) {
    if (log.last == nullptr) continue;
    ++wanted;
    rows.Add({log.log_id, Signed(log.stored), Signed(log.committed),
              sql::Bytes{log.last->observations}});
  }
  return rows.Send(t_, wanted);
}

Status BatchWriter::PutSegments() {
  ManyRows rows(
      "INSERT INTO segments (log_id, first_sequence, last_sequence, first_at, last_at, results, "
      "payload) ",
      7);
  for (const auto& [batch, log] : taken_) {
    if (Seeded(SeededBug::kDropRecord) && batch->last_sequence % 10 == 0) continue;
    const bool found = batch->first_observed_at != absl::InfiniteFuture();
    rows.Add({log->log_id, Signed(batch->first_sequence), Signed(batch->last_sequence),
              sql::ToMicros(found ? batch->first_observed_at : now_),
              sql::ToMicros(found ? batch->filed_at : now_), int64_t{batch->results},
              sql::Bytes{batch->payload}});
  }
  return rows.Send(t_);
}

Status BatchWriter::PutStatesAndTransitions() {
  // Of several batches of an agent the last one knows best.
  std::map<std::pair<std::string_view, uint32_t>, const CheckStateRow*> newest;
  std::vector<const TransitionRow*> transitions;
  for (const auto& [batch, log] : taken_) {
    for (const CheckStateRow& state : batch->states) newest[{state.agent, state.check_id}] = &state;
    for (const TransitionRow& transition : batch->transitions) transitions.push_back(&transition);
  }
  std::vector<const CheckStateRow*> states;
  for (const auto& [key, state] : newest) states.push_back(state);
  return control::PutStatesAndTransitions(t_, states, transitions);
}

Status BatchWriter::PutGaps() {
  std::deque<std::string> bytes;  // parameters borrow them
  ManyRows rows("INSERT INTO gaps (id, agent_id, log_epoch, gap, recorded_at) ", 5);
  for (const auto& [batch, log] : taken_) {
    for (const v1::Gap& gap : batch->gaps) {
      MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t_, "gap"));
      bytes.push_back(gap.SerializeAsString());
      rows.Add({id, log->agent_id, std::string_view(batch->log_epoch), sql::Bytes{bytes.back()},
                sql::ToMicros(now_)});
    }
  }
  return rows.Send(t_);
}

Status BatchWriter::PutRunEvents() {
  std::vector<AgentRunEvent> events;
  for (const auto& [batch, log] : taken_) {
    for (const v1::RunEvent& event : batch->run_events) {
      events.push_back({batch->agent, &event, wire::FromProto(event.at())});
    }
  }
  return StoreRunEvents(t_, events, now_, &refused_);
}

}  // namespace muster::control
