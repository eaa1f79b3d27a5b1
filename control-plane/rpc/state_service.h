// StateService: states, history, transitions, and the watch stream.
//
// A watcher follows the states' revision in the store. It holds one page of events at most and
// reads the next one when that is sent: a slow reader sees fewer steps, costs nobody memory, and
// always ends at the truth.
#pragma once

#include <memory>
#include <set>

#include "control-plane/rpc/followers.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/state_feed.h"
#include "control-plane/rpc/state_reader.h"
#include "lib/exec/threads.h"
#include "muster/v1/state_service.grpc.pb.h"

namespace muster::control {

class WatchStream;

class StateService final : public v1::StateService::CallbackService {
 public:
  // All must outlive the gRPC server.
  StateService(Store& store, Gate& gate, const Clock& clock);
  ~StateService() override;

  grpc::ServerUnaryReactor* ListStates(grpc::CallbackServerContext* context,
                                       const v1::ListStatesRequest* request,
                                       v1::ListStatesResponse* response) override;
  grpc::ServerUnaryReactor* ListTransitions(grpc::CallbackServerContext* context,
                                            const v1::ListTransitionsRequest* request,
                                            v1::ListTransitionsResponse* response) override;
  grpc::ServerWriteReactor<v1::HistoryEntry>* History(grpc::CallbackServerContext* context,
                                                      const v1::HistoryRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchEvent>* Watch(grpc::CallbackServerContext* context,
                                                  const v1::WatchRequest* request) override;

  // There may be something new for watchers.
  void StatesChanged() { followers_.Wake(); }

 private:
  friend class WatchStream;
  Store& store_;
  Gate& gate_;
  StateReader reader_;
  exec::Pool pool_;  // history and watch reads: they may be long, so not with the unary calls
  StateFeed feed_;
  Followers followers_;
};

}  // namespace muster::control
