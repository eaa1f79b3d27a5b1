// SystemService: version, doctor, and the replicas of the control plane.
#pragma once

#include <functional>

#include "control-plane/decide/doctor.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/witnesses.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::control {

class SystemService final : public v1::SystemService::CallbackService {
 public:
  // `facts` fills in what the store does not know: the authority's end, the disk, when serving
  // began.
  SystemService(Store& store, Witnesses& witnesses, Gate& gate, const Clock& clock,
                std::function<DoctorFacts()> facts)
      : store_(store),
        witnesses_(witnesses),
        gate_(gate),
        clock_(clock),
        facts_(std::move(facts)) {}

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context,
                                    const v1::VersionRequest* request,
                                    v1::VersionResponse* response) override;
  grpc::ServerUnaryReactor* Doctor(grpc::CallbackServerContext* context,
                                   const v1::DoctorRequest* request,
                                   v1::DoctorResponse* response) override;
  grpc::ServerUnaryReactor* ListReplicas(grpc::CallbackServerContext* context,
                                         const v1::ListReplicasRequest* request,
                                         v1::ListReplicasResponse* response) override;
  grpc::ServerUnaryReactor* DeleteReplica(grpc::CallbackServerContext* context,
                                          const v1::DeleteReplicaRequest* request,
                                          v1::DeleteReplicaResponse* response) override;

 private:
  StatusOr<DoctorFacts> Facts();
  Status Examine(v1::DoctorResponse& response);
  Status List(v1::ListReplicasResponse& response);

  Store& store_;
  Witnesses& witnesses_;
  Gate& gate_;
  const Clock& clock_;
  const std::function<DoctorFacts()> facts_;
};

}  // namespace muster::control
