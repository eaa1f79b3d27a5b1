#include "control-plane/rpc/state_service.h"

#include <optional>

#include "control-plane/rpc/out_stream.h"

namespace muster::control {
namespace {

constexpr uint32_t kWatchPage = 500;
constexpr size_t kHistoryAhead = 2000;  // entries read ahead of a slow reader

class HistoryStream final : public OutStream<v1::HistoryEntry, HistoryStream> {
 public:
  explicit HistoryStream(v1::HistoryRequest request) : request_(std::move(request)) {}

  void Start(Gate& gate, grpc::CallbackServerContext& context, StateReader& reader,
             exec::Pool& pool) {
    if (!Begin(gate, context, "muster.v1.StateService.History")) return;
    const bool taken = pool.Submit([self = shared_from_this(), &reader] { self->Read(reader); });
    if (!taken) End(ResourceExhausted("the control plane is busy; try again"));
  }
  void Drained() {}
  void Gone() {}

 private:
  void Read(StateReader& reader) {
    bool stuck = false;
    const Status status = reader.History(request_, [&](const v1::HistoryEntry& entry) {
      AwaitRoom(kHistoryAhead);
      stuck = Queued() >= kHistoryAhead;
      return !stuck && Put(entry);
    });
    End(stuck ? DeadlineExceeded("the reader takes no more; ask for less with --since or --limit")
              : status);
  }

  const v1::HistoryRequest request_;
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
      removed_ = revision_;
      started_ = true;
    }
    StateFilter filter;
    if (check_ != 0) filter.check_id = check_;
    filter.agent = request_.agent();
    MUSTER_ASSIGN_OR_RETURN(const CheckNames names, service_.reader_.Names());
    MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> rows,
                            history.ListStates(filter, after_agent_, after_check_, kWatchPage));
    for (const CheckStateRow& row : rows) PutState(row, names);
    if (rows.size() == kWatchPage) {
      after_agent_ = rows.back().agent;
      after_check_ = rows.back().check_id;
      return OkStatus();
    }
    synced_ = true;
    v1::WatchEvent event;
    event.set_synced(true);
    Put(std::move(event));
    return OkStatus();
  }

  Status Follow() {
    HistoryStore& history = service_.store_.history();
    MUSTER_ASSIGN_OR_RETURN(const auto removed, history.RemovedStates(removed_, kWatchPage));
    MUSTER_ASSIGN_OR_RETURN(const auto rows, history.ChangedStates(revision_, kWatchPage));
    if (removed.empty() && rows.empty()) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(const CheckNames names, service_.reader_.Names());
    for (const auto& gone : removed) {
      removed_ = gone.revision;
      CheckStateRow row;
      row.agent = gone.agent;
      row.check_id = gone.check_id;
      row.observed_at = row.since = absl::FromUnixSeconds(0);
      if (!Wanted(row)) continue;
      v1::WatchEvent event;
      *event.mutable_removed() = ToProto(row, known_names_.empty() ? names : known_names_);
      Put(std::move(event));
    }
    for (const CheckStateRow& row : rows) {
      revision_ = row.revision;
      if (Wanted(row)) PutState(row, names);
    }
    return OkStatus();
  }

  void PutState(const CheckStateRow& row, const CheckNames& names) {
    known_names_.insert(names.begin(), names.end());  // a deleted check has no name any more
    v1::WatchEvent event;
    *event.mutable_state() = ToProto(row, names);
    event.mutable_state()->clear_detail();
    event.mutable_state()->clear_last_failure();
    Put(std::move(event));
  }

  StateService& service_;
  const v1::WatchRequest request_;
  // Owned by whoever looks.
  bool started_ = false;
  bool synced_ = false;
  uint32_t check_ = 0;
  uint64_t revision_ = 0;
  uint64_t removed_ = 0;
  std::string after_agent_;
  uint32_t after_check_ = 0;
  CheckNames known_names_;
};

StateService::StateService(Store& store, Gate& gate, const Clock& clock)
    : store_(store),
      gate_(gate),
      reader_(store, clock),
      pool_("state-reads", 2, 1000),
      followers_("watch", pool_) {}

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
  const auto stream = std::make_shared<HistoryStream>(*request);
  stream->Start(gate_, *context, reader_, pool_);
  return stream.get();
}

grpc::ServerWriteReactor<v1::WatchEvent>* StateService::Watch(grpc::CallbackServerContext* context,
                                                              const v1::WatchRequest* request) {
  const auto stream = std::make_shared<WatchStream>(*this, *request);
  stream->Start(gate_, *context);
  return stream.get();
}

}  // namespace muster::control
