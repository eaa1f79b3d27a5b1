// Who is at the other end of a call, by its certificate alone.
#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <string>
#include <string_view>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/status.h"
#include "lib/net/identity.h"

namespace muster::control {

// What a verified certificate (PEM) and the SPIFFE URI that the transport found in it say. Pure.
StatusOr<net::Identity> ReadIdentity(std::string_view certificate, std::string_view uri);

// The same of the peers of calls, read once a certificate: reading one takes longer than many a
// call, and a flood of calls is to cost little. Whether a certificate is denied is no part of it.
//
// Any thread may call.
class PeerIdentities {
 public:
  explicit PeerIdentities(size_t most = 20'000) : most_(most) {}
  // A stranger if the peer showed no certificate.
  StatusOr<net::Identity> Of(const grpc::CallbackServerContext& context);
  StatusOr<net::Identity> Of(std::string_view certificate, std::string_view uri);
  size_t known() const;

 private:
  const size_t most_;
  mutable absl::Mutex mutex_;
  std::map<std::string, StatusOr<net::Identity>> known_ ABSL_GUARDED_BY(mutex_);  // by digest
};

}  // namespace muster::control
