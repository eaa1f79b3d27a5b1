#include "lib/net/server_identity.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <utility>

#include "lib/base/log.h"
#include "lib/net/tls.h"

namespace muster::net {
namespace {

Status BelongTogether(const ServerIdentity& identity) {
  MUSTER_ASSIGN_OR_RETURN(const auto chain, PemToDer(identity.chain_pem));
  return KeyMatches(Secret(identity.key_pem), chain.front());
}

// gRPC asks before each handshake whether there is a new certificate. The C++ layer of gRPC 1.51
// does not offer that, the C layer does: grpc_ssl_server_certificate_config_callback.
class ReplaceableCredentials final : public grpc::ServerCredentials {
 public:
  ReplaceableCredentials(std::shared_ptr<const CurrentIdentity> identity,
                         grpc_ssl_client_certificate_request_type request)
      : identity_(std::move(identity)),
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &Fetch,
                                                                            this))) {}
  ~ReplaceableCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {
    LogError("no processor of metadata is taken: identity comes from the certificate only");
  }

 private:
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<ReplaceableCredentials*>(self)->Fetch(config);
  }

  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config) {
    const CurrentIdentity::Versioned current = identity_->Get();
    if (shown_.exchange(current.version) == current.version) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair{current.identity.key_pem.c_str(),
                                          current.identity.chain_pem.c_str()};
    *config =
        grpc_ssl_server_certificate_config_create(current.identity.roots_pem.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  const std::shared_ptr<const CurrentIdentity> identity_;
  std::atomic<uint64_t> shown_ = 0;
  grpc_server_credentials* const credentials_;
};

}  // namespace

StatusOr<std::shared_ptr<CurrentIdentity>> CurrentIdentity::Make(ServerIdentity identity) {
  std::shared_ptr<CurrentIdentity> made(new CurrentIdentity);
  MUSTER_RETURN_IF_ERROR(made->Replace(std::move(identity)));
  return made;
}

Status CurrentIdentity::Replace(ServerIdentity identity) {
  MUSTER_RETURN_IF_ERROR(BelongTogether(identity));
  absl::MutexLock lock(&mutex_);
  current_ = {std::move(identity), current_.version + 1};
  return OkStatus();
}

CurrentIdentity::Versioned CurrentIdentity::Get() const {
  absl::MutexLock lock(&mutex_);
  return current_;
}

std::shared_ptr<grpc::ServerCredentials> MutualTls(
    std::shared_ptr<const CurrentIdentity> identity) {
  return std::make_shared<ReplaceableCredentials>(
      std::move(identity), GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
}

std::shared_ptr<grpc::ServerCredentials> ServerTls(
    std::shared_ptr<const CurrentIdentity> identity) {
  return std::make_shared<ReplaceableCredentials>(std::move(identity),
                                                  GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
}

}  // namespace muster::net
