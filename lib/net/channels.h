// The channels of a client that comes back to the same servers again and again.
//
// A new channel reads the keys and certificates anew and makes a TLS context of them: milliseconds
// with OpenSSL 3.0, which ten thousand agents that lost their connections together all spend at the
// same time. A channel whose connection is gone makes another one in its place.
//
// One thread at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "lib/net/tls.h"

namespace muster::net {

class Channels {
 public:
  using Opener = std::function<std::shared_ptr<grpc::Channel>(const std::string& server,
                                                              const ClientIdentity& identity)>;
  // As OpenChannel opens them, unless a test says otherwise.
  explicit Channels(Opener open = nullptr);

  // A channel over which nothing is connected: the one of before, or a new one where that still has
  // a connection, which may be the one that answers no more, or waits after an attempt that failed.
  // Another identity than last time gets new ones.
  std::shared_ptr<grpc::Channel> To(const std::string& server, const ClientIdentity& identity);

 private:
  Opener open_;
  ClientIdentity identity_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> kept_;
};

}  // namespace muster::net
