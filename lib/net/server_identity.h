// The certificate that a server shows, which can be replaced while it serves: handshakes that begin
// afterwards see the new one, and what is connected stays connected.
//
// Any thread may call. Credentials made here keep what they need alive.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/status.h"

namespace grpc {
class ServerCredentials;
}  // namespace grpc

namespace muster::net {

struct ServerIdentity {
  std::string roots_pem;
  std::string chain_pem;
  std::string key_pem;
};

class CurrentIdentity {
 public:
  // FailedPrecondition if key and certificate do not belong together: nothing changes then.
  static StatusOr<std::shared_ptr<CurrentIdentity>> Make(ServerIdentity identity);
  Status Replace(ServerIdentity identity);

  struct Versioned {
    ServerIdentity identity;
    uint64_t version = 0;  // grows with every replacement
  };
  Versioned Get() const;

 private:
  CurrentIdentity() = default;
  mutable absl::Mutex mutex_;
  Versioned current_ ABSL_GUARDED_BY(mutex_);
};

// Client certificates required and verified (the agents' and operators' port).
std::shared_ptr<grpc::ServerCredentials> MutualTls(std::shared_ptr<const CurrentIdentity> identity);
// No client certificate asked for (the enrolment port).
std::shared_ptr<grpc::ServerCredentials> ServerTls(std::shared_ptr<const CurrentIdentity> identity);

}  // namespace muster::net
