// gRPC's statuses and ours. The codes are the same numbers.
#pragma once

#include <grpcpp/support/status.h>

#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::net {

// A message is kept below the metadata limit.
inline grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(Truncate(Message(status), 6000)));
}

inline Status ToAbsl(const grpc::Status& status) {
  if (status.ok()) return OkStatus();
  return Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace muster::net
