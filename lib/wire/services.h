// Every file of the protocol that declares a service. A service that is not here may be called by
// nobody (control-plane/rpc/gate.h).
#pragma once

#include <google/protobuf/descriptor.h>

#include <vector>

#include "muster/v1/agent_link.pb.h"
#include "muster/v1/alert_service.pb.h"
#include "muster/v1/backup_service.pb.h"
#include "muster/v1/enrollment.pb.h"
#include "muster/v1/identity.pb.h"
#include "muster/v1/run_service.pb.h"
#include "muster/v1/spec_service.pb.h"
#include "muster/v1/state_service.pb.h"
#include "muster/v1/system_service.pb.h"

namespace muster::wire {

inline std::vector<const google::protobuf::FileDescriptor*> ServiceFiles() {
  return {v1::Hello::descriptor()->file(),           v1::JoinRequest::descriptor()->file(),
          v1::RenewRequest::descriptor()->file(),    v1::ApplySpecsRequest::descriptor()->file(),
          v1::HistoryRequest::descriptor()->file(),  v1::ListAlertsRequest::descriptor()->file(),
          v1::StartRunRequest::descriptor()->file(), v1::ListBackupsRequest::descriptor()->file(),
          v1::VersionRequest::descriptor()->file()};
}

}  // namespace muster::wire
