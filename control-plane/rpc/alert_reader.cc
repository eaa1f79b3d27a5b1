#include "control-plane/rpc/alert_reader.h"

#include "control-plane/decide/alert.h"
#include "control-plane/rpc/paging.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

AlertFilter FilterOf(const v1::ListAlertsRequest& request, absl::Time now) {
  AlertFilter filter{.resolved_since = absl::InfinitePast()};
  for (const int state : request.state())
    filter.state.push_back(static_cast<v1::AlertState>(state));
  if (filter.state.empty()) {
    filter.state = {v1::ALERT_STATE_PENDING, v1::ALERT_STATE_FIRING, v1::ALERT_STATE_RESOLVED};
    filter.resolved_since = now - absl::Hours(24);
  }
  return filter;
}

std::string_view StateName(OutboxState state) {
  switch (state) {
    case OutboxState::kWaiting: return "waiting";
    case OutboxState::kDelivered: return "delivered";
    case OutboxState::kFailed: return "failed";
  }
  return "";
}

v1::Delivery ToProto(const OutboxRow& row) {
  v1::Delivery delivery;
  delivery.set_receiver(row.receiver);
  delivery.set_event(row.event);
  delivery.set_attempts(row.attempts);
  delivery.set_state(std::string(StateName(row.state)));
  if (row.state == OutboxState::kWaiting) {
    *delivery.mutable_next_attempt_at() = wire::ToProto(row.next_attempt_at);
  }
  if (row.state == OutboxState::kDelivered) {
    *delivery.mutable_delivered_at() = wire::ToProto(row.delivered_at);
  }
  delivery.set_last_error(row.last_error);
  return delivery;
}

v1::AlertEvent ToProto(const AlertEventRow& row) {
  v1::AlertEvent event;
  *event.mutable_at() = wire::ToProto(row.at);
  event.set_what(row.what);
  event.set_reason(row.reason);
  return event;
}

}  // namespace

Status ListAlerts(AlertStore& alerts, const v1::ListAlertsRequest& request, absl::Time now,
                  v1::ListAlertsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const NewestFirst position, ReadNewestFirst(request.page_token()));
  const uint32_t size = PageSize(request.page_size());
  MUSTER_ASSIGN_OR_RETURN(
      std::vector<AlertRow> rows,
      alerts.List(FilterOf(request, now), position.before, position.id, size + 1));
  const bool more = rows.size() > size;
  if (more) rows.resize(size);
  for (const AlertRow& row : rows) *response.add_items() = AlertMessage(row);
  if (more) {
    response.set_next_page_token(
        MakePageToken(NewestFirst{rows.back().started_at, rows.back().id}));
  }
  return OkStatus();
}

Status ExplainAlert(AlertStore& alerts, const v1::ExplainAlertRequest& request,
                    v1::ExplainAlertResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const auto alert, alerts.Find(request.id()));
  if (!alert.has_value()) {
    return NotFound("no alert has the id '{}': 'musterctl get alerts -o wide' shows the ids",
                    request.id());
  }
  *response.mutable_alert() = AlertMessage(*alert);
  MUSTER_ASSIGN_OR_RETURN(const auto events, alerts.Events(request.id()));
  for (const AlertEventRow& event : events) *response.add_events() = ToProto(event);
  MUSTER_ASSIGN_OR_RETURN(const auto deliveries, alerts.Deliveries(request.id()));
  for (const OutboxRow& row : deliveries) *response.add_deliveries() = ToProto(row);
  return OkStatus();
}

}  // namespace muster::control
