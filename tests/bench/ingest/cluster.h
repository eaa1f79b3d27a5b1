// A control plane's folder, authority and guarded port, on which either subject of the bench
// stands: both get the same certificates, TLS, listener and server arguments.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "control-plane/pki/authority.h"
#include "control-plane/store/store.h"
#include "lib/net/listener.h"
#include "lib/net/server_identity.h"
#include "lib/net/tls.h"
#include "lib/testing/servers.h"

namespace muster::bench {

class Cluster {
 public:
  Cluster();
  ~Cluster();

  // An agent known to the store, and its certificate.
  net::ClientIdentity AddAgent(const std::string& name);
  // Once. The service must live until StopServing.
  void Serve(grpc::Service& service);
  void StopServing();

  std::string address() const;
  std::string File(const std::string& name) const { return folder_.File(name); }
  const std::string& folder() const { return folder_.path(); }
  std::string store_path() const { return File("muster.db"); }
  control::Store& store() { return *store_; }
  const control::Authority& authority() const { return *authority_; }
  // The last connections to the database file end, and with them its write-ahead log.
  void CloseStore();

 private:
  testing::TempFolder folder_;
  std::unique_ptr<control::Store> store_;
  std::unique_ptr<control::Authority> authority_;
  std::shared_ptr<net::CurrentIdentity> own_;
  std::unique_ptr<net::GuardedListener> listener_;
  std::unique_ptr<grpc::Server> server_;
};

// The file and what its write-ahead log holds beside it.
uint64_t DatabaseBytes(const std::string& path);

}  // namespace muster::bench
