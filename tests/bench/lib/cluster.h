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

enum class Backend { kSqlite, kPostgres };

class Cluster {
 public:
  // With kPostgres on a server of its own, whose commits reach the disk.
  explicit Cluster(Backend backend);
  ~Cluster();

  // An agent known to the store, and its certificate.
  net::ClientIdentity AddAgent(const std::string& name);
  // Once. The service must live until StopServing.
  void Serve(grpc::Service& service);
  void StopServing();

  std::string address() const;
  std::string File(const std::string& name) const { return folder_.File(name); }
  const std::string& folder() const { return folder_.path(); }
  control::Store& store() { return *store_; }
  const control::Authority& authority() const { return *authority_; }
  // Null on SQLite.
  testing::PostgresServer* postgres() { return postgres_.get(); }
  // The last connections to the database end, and with them SQLite's write-ahead log; the bytes of
  // the database.
  uint64_t CloseStore();

 private:
  std::string StoreUrl() const;

  testing::TempFolder folder_;
  std::unique_ptr<testing::PostgresServer> postgres_;
  std::unique_ptr<control::Store> store_;
  std::unique_ptr<control::Authority> authority_;
  std::shared_ptr<net::CurrentIdentity> own_;
  std::unique_ptr<net::GuardedListener> listener_;
  std::unique_ptr<grpc::Server> server_;
};

// The file and what its write-ahead log holds beside it.
uint64_t DatabaseBytes(const std::string& path);

}  // namespace muster::bench
