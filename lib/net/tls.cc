#include "lib/net/tls.h"

#include <grpcpp/grpcpp.h>

#include <cstdlib>

#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/net/openssl.h"
#include "lib/net/session_tickets.h"

namespace muster::net {
namespace {

std::string BioText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

void ReadNames(X509* certificate, CertificateFacts& facts) {
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI && name->type != GEN_DNS) continue;
    const ASN1_IA5STRING* text = name->d.ia5;
    std::string value(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                      static_cast<size_t>(ASN1_STRING_length(text)));
    (name->type == GEN_URI ? facts.uris : facts.dns_names).push_back(std::move(value));
  }
  GENERAL_NAMES_free(names);
}

std::string SerialHex(X509* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get_serialNumber(certificate), nullptr);
  char* text = BN_bn2hex(number);
  std::string hex = text;
  OPENSSL_free(text);
  BN_free(number);
  return hex;
}

}  // namespace

void PrepareTls() {
  // A list without a TLS 1.2 suite is the only way in this gRPC to refuse TLS 1.2; 1.3 has suites
  // of its own.
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", 1);
  for (const char* name : {"GRPC_TRACE", "GRPC_VERBOSITY", "SSLKEYLOGFILE"}) unsetenv(name);
  // If it fails it costs time alone.
  [[maybe_unused]] static const Status no_tickets = SendNoSessionTickets();
}

StatusOr<Secret> NewPrivateKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return Internal("could not make a key: {}", LastSslError());
  BioPtr bio(BIO_new(BIO_s_secmem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
      1) {
    return Internal("could not write a key: {}", LastSslError());
  }
  return Secret(BioText(bio.get()));
}

StatusOr<std::string> NewCertificateRequest(const Secret& key_pem) {
  MUSTER_ASSIGN_OR_RETURN(const KeyPtr key, ReadPrivateKey(key_pem.Reveal()));
  RequestPtr request(X509_REQ_new());
  X509_REQ_set_version(request.get(), 0);
  X509_REQ_set_pubkey(request.get(), key.get());
  if (X509_REQ_sign(request.get(), key.get(), EVP_sha256()) <= 0) {
    return Internal("could not sign a certificate request: {}", LastSslError());
  }
  unsigned char* bytes = nullptr;
  const int size = i2d_X509_REQ(request.get(), &bytes);
  std::string der(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

std::string DerToPem(const std::vector<std::string>& certificates) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  for (const std::string& der : certificates) {
    const StatusOr<CertificatePtr> certificate = ParseCertificate(der);
    if (certificate.ok()) PEM_write_bio_X509(bio.get(), certificate->get());
  }
  return BioText(bio.get());
}

StatusOr<std::vector<std::string>> PemToDer(std::string_view pem) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<std::string> certificates;
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* bytes = nullptr;
  long size = 0;
  // Not read as certificates: that would cost more than all the rest, and who needs one reads it.
  while (PEM_read_bio(bio.get(), &name, &header, &bytes, &size) == 1) {
    if (std::string_view(name) == PEM_STRING_X509) {
      certificates.emplace_back(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    // Another block may have been a key.
    OPENSSL_clear_free(bytes, static_cast<size_t>(size));
  }
  ERR_clear_error();
  if (certificates.empty()) return InvalidArgument("there is no certificate in the PEM text");
  return certificates;
}

StatusOr<CertificateFacts> ReadCertificate(std::string_view der) {
  MUSTER_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(der));
  CertificateFacts facts;
  char subject[512];
  X509_NAME_oneline(X509_get_subject_name(certificate.get()), subject, sizeof subject);
  facts.subject = subject;
  ReadNames(certificate.get(), facts);
  facts.not_before = FromAsn1(X509_get0_notBefore(certificate.get()));
  facts.not_after = FromAsn1(X509_get0_notAfter(certificate.get()));
  facts.serial = SerialHex(certificate.get());
  facts.fingerprint = HexEncode(Sha256(der));
  facts.public_key_fingerprint = PublicKeyFingerprint(certificate.get());
  // Without the extension every usage counts as allowed, and the answer is all ones.
  const uint32_t usages = X509_get_extended_key_usage(certificate.get());
  facts.client_usage = usages != UINT32_MAX && (usages & XKU_SSL_CLIENT) != 0;
  facts.is_authority = X509_check_ca(certificate.get()) > 0;
  return facts;
}

Status KeyMatches(const Secret& key_pem, std::string_view certificate_der) {
  MUSTER_ASSIGN_OR_RETURN(const KeyPtr key, ReadPrivateKey(key_pem.Reveal()));
  MUSTER_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(certificate_der));
  if (X509_check_private_key(certificate.get(), key.get()) == 1) return OkStatus();
  ERR_clear_error();
  return FailedPrecondition("the certificate belongs to another key");
}

StatusOr<std::string> Sign(const Secret& key_pem, std::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const KeyPtr key, ReadPrivateKey(key_pem.Reveal()));
  return SignText(key.get(), text);
}

Status VerifySignature(std::string_view certificate_der, std::string_view text,
                       std::string_view signature) {
  MUSTER_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(certificate_der));
  const DigestPtr digest(EVP_MD_CTX_new());
  const bool good =
      EVP_DigestVerifyInit(digest.get(), nullptr, EVP_sha256(), nullptr,
                           X509_get0_pubkey(certificate.get())) == 1 &&
      EVP_DigestVerify(digest.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                       signature.size(), reinterpret_cast<const unsigned char*>(text.data()),
                       text.size()) == 1;
  ERR_clear_error();
  return good ? OkStatus() : Unauthenticated("the signature is not of the certificate's key");
}

Status VerifyChain(const std::vector<std::string>& chain_der,
                   const std::vector<std::string>& roots_der, absl::Time at) {
  if (chain_der.empty()) return InvalidArgument("the certificate chain is empty");
  std::unique_ptr<X509_STORE, Freer<X509_STORE_free>> store(X509_STORE_new());
  for (const std::string& der : roots_der) {
    MUSTER_ASSIGN_OR_RETURN(const CertificatePtr root, ParseCertificate(der));
    X509_STORE_add_cert(store.get(), root.get());
  }
  MUSTER_ASSIGN_OR_RETURN(const CertificatePtr leaf, ParseCertificate(chain_der.front()));
  STACK_OF(X509)* others = sk_X509_new_null();
  for (size_t i = 1; i < chain_der.size(); ++i) {
    StatusOr<CertificatePtr> issuer = ParseCertificate(chain_der[i]);
    if (issuer.ok()) sk_X509_push(others, issuer->release());
  }
  std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), others);
  X509_STORE_CTX_set_time(context.get(), 0, absl::ToTimeT(at));
  const bool good = X509_verify_cert(context.get()) == 1;
  const std::string why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
  sk_X509_pop_free(others, X509_free);
  ERR_clear_error();
  return good ? OkStatus() : Unauthenticated("the certificate does not verify: {}", why);
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const ClientIdentity& identity,
                                           const ChannelOptions& options) {
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = identity.roots_pem;
  tls.pem_private_key = identity.key_pem;
  tls.pem_cert_chain = identity.chain_pem;
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(kServerName);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_time)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_timeout)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 1000);
  // Despite its name: how long one attempt may take, handshakes included. Where thousands come at
  // once they wait for one another, and those that give up early make the work anew.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 30'000);
  arguments.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  arguments.SetMaxSendMessageSize(static_cast<int>(options.max_message_bytes));
  return grpc::CreateCustomChannel(address, grpc::SslCredentials(tls), arguments);
}

}  // namespace muster::net
