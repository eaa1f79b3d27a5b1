#include "control-plane/rpc/state_service.h"

#include <optional>

#include "control-plane/rpc/out_stream.h"

namespace muster::control {
namespace {

constexpr uint32_t kWatchPage = 500;
constexpr size_t kHistoryPage = 2000;  // entries, about

// Reads on when what it read is sent: a reader that takes its time holds no thread, and one page.
class HistoryStream final : public OutStream<v1::HistoryEntry, HistoryStream> {
 public:
  HistoryStream(v1::HistoryRequest request, StateReader& reader, exec::Pool& pool)
      : request_(std::move(request)), reader_(reader), pool_(pool) {}

  void Start(Gate& gate, grpc::CallbackServerContext& context) {
    if (Begin(gate, context, "muster.v1.StateService.History")) GoOn();
  }
  void Drained() { GoOn(); }
  void Gone() {}

 private:
  void GoOn() {
    if (Ended()) return;
    const bool taken = pool_.Submit([self = shared_from_this()] { self->Read(); });
    if (!taken) End(ResourceExhausted("the control plane is busy; try again"));
  }

  // Never two at once: the next one follows a page that was sent, or this one where it found none.
  void Read() {
    if (Ended()) return;
    if (pages_ == nullptr) {
      StatusOr<std::unique_ptr<HistoryPages>> pages = reader_.History(request_);
      if (!pages.ok()) return End(pages.status());
      pages_ = *std::move(pages);
    }
    StatusOr<std::vector<v1::HistoryEntry>> entries = pages_->Next(kHistoryPage);
    if (!entries.ok()) return End(entries.status());
    if (pages_->done()) {
      PutAll(*std::move(entries));
      return End(OkStatus());
    }
    if (entries->empty()) return GoOn();
    PutAll(*std::move(entries));
  }

  const v1::HistoryRequest request_;
  StateReader& reader_;
  exec::Pool& pool_;
  std::unique_ptr<HistoryPages> pages_;
};

}  // namespace

class WatchStream final : public OutStream<v1::WatchEvent, WatchStream>, public Follower {
 public:
  WatchStream(StateService& service, v1::WatchRequest request)
      : service_(service), request_(std::move(request)) {}

  void Start(Gate& gate, grpc::CallbackServerContext& context) {
    if (Begin(gate, context, "muster.v1.StateService.Watch"))
      service_.followers_.Enter(shared_from_this());
  }
  // The page is sent: there may be another.
  void Drained() { service_.StatesChanged(); }
  void Gone() { service_.followers_.Leave(this); }

  void Look() override {
    if (Ended() || Queued() > 0) return;
    const Status status = synced_ ? Follow() : First();
    if (!status.ok()) End(status);
  }

 private:
  bool Wanted(const CheckStateRow& row) const {
    return (check_ == 0 || row.check_id == check_) &&
           (request_.agent().empty() || row.agent == request_.agent());
  }

  Status First() {
    HistoryStore& history = service_.store_.history();
    if (!started_) {
      MUSTER_ASSIGN_OR_RETURN(check_, service_.reader_.CheckNumber(request_.check()));
      MUSTER_ASSIGN_OR_RETURN(revision_, history.StateRevision());
      started_ = true;
    }
    StateFilter filter;
    if (check_ != 0) filter.check_id = check_;
    filter.agent = request_.agent();
    MUSTER_ASSIGN_OR_RETURN(const CheckNames names, service_.store_.specs().CheckNames());
    MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> rows,
                            history.ListStates(filter, after_agent_, after_check_, kWatchPage));
    std::vector<v1::WatchEvent> events;
    for (const CheckStateRow& row : rows) events.push_back(Shown(row, names));
    if (rows.size() == kWatchPage) {
      after_agent_ = rows.back().agent;
      after_check_ = rows.back().check_id;
    } else {
      synced_ = true;
      events.emplace_back().set_synced(true);
    }
    PutAll(std::move(events));
    return OkStatus();
  }

  // Until there is something for this one, or nothing new for anyone.
  Status Follow() {
    std::vector<v1::WatchEvent> events;
    for (bool more = true; more && events.empty();) {
      MUSTER_ASSIGN_OR_RETURN(const StateFeedPage page,
                              service_.feed_.After(revision_, kWatchPage));
      const std::shared_ptr<const CheckNames> names = service_.feed_.names();
      for (const auto& change : page.changes) {
        if (!Wanted(change->row)) continue;
        if (change->removed) {
          *events.emplace_back().mutable_removed() = ToProto(change->row, *names);
        } else {
          events.push_back(Shown(change->row, *names));
        }
      }
      revision_ = page.through;
      more = page.more;
    }
    if (!events.empty()) PutAll(std::move(events));
    return OkStatus();
  }

  static v1::WatchEvent Shown(const CheckStateRow& row, const CheckNames& names) {
    v1::WatchEvent event;
    *event.mutable_state() = ToProto(row, names);
    event.mutable_state()->clear_detail();
    event.mutable_state()->clear_last_failure();
    return event;
  }

  StateService& service_;
  const v1::WatchRequest request_;
  // Owned by whoever looks.
  bool started_ = false;
  bool synced_ = false;
  uint32_t check_ = 0;
  uint64_t revision_ = 0;
  std::string after_agent_;
  uint32_t after_check_ = 0;
};

StateService::StateService(Store& store, Gate& gate, const Clock& clock)
    : store_(store),
      gate_(gate),
      reader_(store, clock),
      pool_("state-reads", 2, 1000),
      feed_(store),
      followers_("watch", pool_, [this] { feed_.Refresh(); }) {}

StateService::~StateService() {
  followers_.Stop();
  pool_.Stop();
}

grpc::ServerUnaryReactor* StateService::ListStates(grpc::CallbackServerContext* context,
                                                   const v1::ListStatesRequest* request,
                                                   v1::ListStatesResponse* response) {
  return gate_.Serve(context, "muster.v1.StateService.ListStates",
                     [=, this](const net::Identity&) { return reader_.List(*request, *response); });
}

grpc::ServerUnaryReactor* StateService::ListTransitions(grpc::CallbackServerContext* context,
                                                        const v1::ListTransitionsRequest* request,
                                                        v1::ListTransitionsResponse* response) {
  return gate_.Serve(
      context, "muster.v1.StateService.ListTransitions",
      [=, this](const net::Identity&) { return reader_.Transitions(*request, *response); });
}

grpc::ServerWriteReactor<v1::HistoryEntry>* StateService::History(
    grpc::CallbackServerContext* context, const v1::HistoryRequest* request) {
  const auto stream = std::make_shared<HistoryStream>(*request, reader_, pool_);
  stream->Start(gate_, *context);
  return stream.get();
}

grpc::ServerWriteReactor<v1::WatchEvent>* StateService::Watch(grpc::CallbackServerContext* context,
                                                              const v1::WatchRequest* request) {
  const auto stream = std::make_shared<WatchStream>(*this, *request);
  stream->Start(gate_, *context);
  return stream.get();
}

}  // namespace muster::control
