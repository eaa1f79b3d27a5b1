#include "lib/net/join.h"

#include <grpcpp/grpcpp.h>

#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/net/openssl.h"
#include "lib/net/socket.h"
#include "lib/net/status.h"
#include "muster/v1/enrollment.grpc.pb.h"

namespace muster::net {
namespace {

// The certificates that the server shows, leaf first. Nothing is believed of them yet.
StatusOr<std::vector<std::string>> ServerChain(const std::string& server, absl::Duration within) {
  MUSTER_ASSIGN_OR_RETURN(const Socket socket, ConnectTo(server, within));
  SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2);
  SslPtr ssl(SSL_new(context.get()));
  SSL_set_tlsext_host_name(ssl.get(), kServerName);
  SSL_set_fd(ssl.get(), socket.fd());
  if (SSL_connect(ssl.get()) != 1) {
    return Unavailable("{} does not speak TLS 1.3 ({}); is it the enrolment port?", server,
                       LastSslError());
  }
  std::vector<std::string> chain;
  STACK_OF(X509)* shown = SSL_get_peer_cert_chain(ssl.get());
  for (int i = 0; shown != nullptr && i < sk_X509_num(shown); ++i) {
    chain.push_back(CertificateDer(sk_X509_value(shown, i)));
  }
  return chain;
}

// The authority in the chain that the pin names.
StatusOr<std::string> PinnedAuthority(const std::vector<std::string>& chain, std::string_view pin,
                                      const std::string& server) {
  for (const std::string& der : chain) {
    const StatusOr<CertificateFacts> facts = ReadCertificate(der);
    if (facts.ok() && facts->is_authority &&
        SameBytes(facts->public_key_fingerprint, HexEncode(pin)))
      return der;
  }
  return Unauthenticated(
      "{} is not the control plane that made this join string: the authority's fingerprint "
      "differs. The token "
      "was not sent. Check the address, or make a join string there",
      server);
}

// Sends the request, and believes the answer only if it is the authority's, for our key.
StatusOr<Joined> Ask(const std::string& server, const std::string& roots_pem,
                     const v1::JoinRequest& request, const Secret& key, const Clock& clock,
                     absl::Duration within) {
  ClientIdentity stranger;
  stranger.roots_pem = roots_pem;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(clock.Now() + within));
  v1::JoinResponse response;
  const auto stub = v1::Enrollment::NewStub(OpenChannel(server, stranger));
  MUSTER_RETURN_IF_ERROR(ToAbsl(stub->Join(&context, request, &response)));
  const std::vector<std::string> chain(response.chain().begin(), response.chain().end());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> roots, PemToDer(roots_pem));
  MUSTER_RETURN_IF_ERROR(VerifyChain(chain, roots, clock.Now()));
  MUSTER_RETURN_IF_ERROR(KeyMatches(key, chain.front()));
  Joined joined;
  joined.agent_name = response.agent_name();
  joined.servers.assign(response.servers().begin(), response.servers().end());
  joined.identity = {roots_pem, DerToPem(chain), std::string(key.Reveal())};
  return joined;
}

}  // namespace

std::string ReadmissionText(std::string_view csr_der) {
  std::string text = "muster readmission v1";
  text += '\0';
  text += csr_der;
  return text;
}

StatusOr<Joined> Join(const std::string& server, const JoinString& join, const Secret& key,
                      const Clock& clock, absl::Duration within) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> shown, ServerChain(server, within));
  MUSTER_ASSIGN_OR_RETURN(const std::string authority, PinnedAuthority(shown, join.pin, server));
  v1::JoinRequest request;
  request.set_token(join.token);
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_csr(), NewCertificateRequest(key));
  request.set_version(MUSTER_VERSION);
  return Ask(server, DerToPem({authority}), request, key, clock, within);
}

StatusOr<Joined> Rejoin(const std::string& server, const ClientIdentity& expired,
                        const Clock& clock, absl::Duration within) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> chain, PemToDer(expired.chain_pem));
  v1::JoinRequest request;
  request.set_expired_certificate(chain.front());
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_csr(), NewCertificateRequest(key));
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_proof(),
                          Sign(Secret(expired.key_pem), ReadmissionText(request.csr())));
  request.set_version(MUSTER_VERSION);
  return Ask(server, expired.roots_pem, request, key, clock, within);
}

}  // namespace muster::net
