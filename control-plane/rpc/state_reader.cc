#include "control-plane/rpc/state_reader.h"

#include <charconv>

#include "control-plane/rpc/paging.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

std::string NameOf(uint32_t id, const CheckNames& names) {
  const auto found = names.find(id);
  return found == names.end() ? fmt::format("deleted-{}", id) : found->second;
}

}  // namespace

v1::State ToProto(const CheckStateRow& row, const CheckNames& names) {
  v1::State state;
  state.set_check(NameOf(row.check_id, names));
  state.set_agent(row.agent);
  state.set_state(row.status);
  state.set_hard(row.hard);
  *state.mutable_since() = wire::ToProto(row.since);
  *state.mutable_observed_at() = wire::ToProto(row.observed_at);
  state.set_summary(row.summary);
  *state.mutable_latency() = wire::ToProto(row.latency);
  state.set_seen(row.seen);
  state.set_needed(row.needed);
  *state.mutable_detail() = row.detail.last();
  if (row.detail.has_last_failure()) {
    *state.mutable_last_failure() = row.detail.last_failure();
    *state.mutable_last_failure_at() = wire::ToProto(row.last_failure_at);
  }
  return state;
}

v1::Transition ToProto(const TransitionRow& row, const CheckNames& names) {
  v1::Transition transition;
  transition.set_id(row.id);
  transition.set_check(NameOf(row.check_id, names));
  transition.set_agent(row.agent);
  transition.set_from(row.from);
  transition.set_to(row.to);
  transition.set_hard(row.hard);
  *transition.mutable_at() = wire::ToProto(row.at);
  *transition.mutable_recorded_at() = wire::ToProto(row.recorded_at);
  transition.set_summary(row.summary);
  transition.set_reason(row.reason);
  return transition;
}

HistoryPages::HistoryPages(HistoryStore& store, SegmentCursor cursor, const HistoryQuery& query)
    : store_(store), cursor_(std::move(cursor)), reader_(query, [this](const v1::HistoryEntry& e) {
        entries_.push_back(e);
        return true;
      }) {}

StatusOr<std::vector<v1::HistoryEntry>> HistoryPages::Next(size_t enough) {
  MUSTER_RETURN_IF_ERROR(damage_);
  entries_.clear();
  if (fed_ == segments_.size() && !done_) {
    MUSTER_ASSIGN_OR_RETURN(segments_, store_.NextSegments(cursor_));
    fed_ = 0;
    done_ = segments_.empty();
  }
  while (fed_ < segments_.size() && !done_ && entries_.size() < enough) {
    const StatusOr<bool> more = reader_.Feed(segments_[fed_++]);
    if (more.ok()) {
      done_ = !*more;
    } else if (entries_.empty()) {
      return more.status();
    } else {
      damage_ = more.status();
      break;
    }
  }
  return std::move(entries_);
}

StatusOr<uint32_t> StateReader::CheckNumber(const std::string& name) {
  if (name.empty()) return 0;
  MUSTER_ASSIGN_OR_RETURN(const uint32_t id, store_.specs().CheckId(name));
  if (id == 0)
    return NotFound("there is no check named {}; list them with: musterctl get checks", name);
  return id;
}

StatusOr<StateFilter> StateReader::Filter(const std::string& check, const std::string& agent) {
  StateFilter filter;
  MUSTER_ASSIGN_OR_RETURN(const uint32_t id, CheckNumber(check));
  if (id != 0) filter.check_id = id;
  filter.agent = agent;
  return filter;
}

Status StateReader::List(const v1::ListStatesRequest& request, v1::ListStatesResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(StateFilter filter, Filter(request.check(), request.agent()));
  for (const int status : request.status())
    filter.status.push_back(static_cast<v1::CheckStatus>(status));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> after,
                          ReadPageToken(request.page_token(), 2));
  uint32_t after_check = 0;
  std::from_chars(after[1].data(), after[1].data() + after[1].size(), after_check);
  const uint32_t limit = PageSize(request.page_size());
  MUSTER_ASSIGN_OR_RETURN(const CheckNames names, store_.specs().CheckNames());
  MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> rows,
                          store_.history().ListStates(filter, after[0], after_check, limit + 1));
  const bool more = rows.size() > limit;
  if (more) rows.resize(limit);
  for (const CheckStateRow& row : rows) *response.add_items() = ToProto(row, names);
  if (more) {
    response.set_next_page_token(
        MakePageToken({rows.back().agent, fmt::format("{}", rows.back().check_id)}));
  }
  return OkStatus();
}

Status StateReader::Transitions(const v1::ListTransitionsRequest& request,
                                v1::ListTransitionsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const StateFilter filter, Filter(request.check(), request.agent()));
  const absl::Time since =
      request.has_since() ? wire::FromProto(request.since()) : absl::FromUnixSeconds(0);
  MUSTER_ASSIGN_OR_RETURN(const CheckNames names, store_.specs().CheckNames());
  MUSTER_ASSIGN_OR_RETURN(
      const std::vector<TransitionRow> rows,
      store_.history().ListTransitions(filter, since, PageSize(request.limit())));
  for (const TransitionRow& row : rows) *response.add_items() = ToProto(row, names);
  return OkStatus();
}

StatusOr<std::unique_ptr<HistoryPages>> StateReader::History(const v1::HistoryRequest& request) {
  if (request.check().empty() || request.agent().empty()) {
    return InvalidArgument("history needs a check and an agent");
  }
  HistoryQuery query;
  MUSTER_ASSIGN_OR_RETURN(query.check_id, CheckNumber(request.check()));
  MUSTER_ASSIGN_OR_RETURN(const auto agent, store_.sessions().Find(request.agent()));
  if (!agent.has_value()) {
    return NotFound("there is no agent named {}; list them with: musterctl get agents",
                    request.agent());
  }
  query.since = request.has_since() ? wire::FromProto(request.since()) : absl::FromUnixSeconds(0);
  // An agent's clock may run ahead of ours; what it observed is not hidden for that.
  query.until =
      request.has_until() ? wire::FromProto(request.until()) : clock_.Now() + absl::Hours(24);
  query.limit = request.limit();
  return std::make_unique<HistoryPages>(
      store_.history(),
      SegmentCursor{.agent = request.agent(), .since = query.since, .until = query.until}, query);
}

}  // namespace muster::control
