#include "control-plane/pki/authority.h"

#include <openssl/rand.h>

#include "control-plane/pki/cluster_key.h"
#include "lib/base/text.h"
#include "lib/net/identity.h"
#include "lib/net/tls.h"

namespace muster::control {
namespace {

constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3650);
// Clocks differ: a certificate is good a little before it was made.
constexpr absl::Duration kSkew = absl::Minutes(5);
absl::Duration SkewFor(absl::Duration lifetime) { return std::min(kSkew, lifetime / 10); }
constexpr char kPurpose[] = "muster authority key";

void SetTimes(X509* certificate, absl::Time from, absl::Time until) {
  ASN1_TIME_set(X509_getm_notBefore(certificate), absl::ToTimeT(from));
  ASN1_TIME_set(X509_getm_notAfter(certificate), absl::ToTimeT(until));
}

void SetRandomSerial(X509* certificate) {
  BIGNUM* serial = BN_new();
  BN_rand(serial, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY);
  BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate));
  BN_free(serial);
}

void SetName(X509_NAME* name, const std::string& common_name) {
  X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("muster"), -1, -1, 0);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
}

Status AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr)
    return Internal("could not make a certificate's {}: {}", value, net::LastSslError());
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return OkStatus();
}

StatusOr<net::CertificatePtr> SelfSigned(EVP_PKEY* key, absl::Time now) {
  net::CertificatePtr certificate(X509_new());
  X509* made = certificate.get();
  X509_set_version(made, X509_VERSION_3);
  SetRandomSerial(made);
  SetTimes(made, now - kSkew, now + kAuthorityLifetime);
  SetName(X509_get_subject_name(made), "muster authority");
  X509_set_issuer_name(made, X509_get_subject_name(made));
  X509_set_pubkey(made, key);
  MUSTER_RETURN_IF_ERROR(
      AddExtension(made, made, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, made, NID_key_usage, "critical,keyCertSign,cRLSign"));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, made, NID_subject_key_identifier, "hash"));
  if (X509_sign(made, key, EVP_sha256()) <= 0)
    return Internal("could not sign: {}", net::LastSslError());
  return certificate;
}

Status StrongEnough(EVP_PKEY* key) {
  const int bits = EVP_PKEY_get_bits(key);
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC:
      if (bits >= 256) return OkStatus();
      break;
    case EVP_PKEY_ED25519: return OkStatus();
    case EVP_PKEY_RSA:
      if (bits >= 2048 && bits <= 8192) return OkStatus();
      break;
    default: break;
  }
  return InvalidArgument("the request's key is of a kind or size that is not accepted; use P-256");
}

}  // namespace

Authority::Authority(net::KeyPtr key, net::CertificatePtr certificate, const Clock& clock,
                     Lifetimes lifetimes)
    : key_(std::move(key)),
      certificate_(std::move(certificate)),
      certificate_der_(net::CertificateDer(certificate_.get())),
      not_after_(net::FromAsn1(X509_get0_notAfter(certificate_.get()))),
      clock_(clock),
      lifetimes_(lifetimes) {}

StatusOr<std::unique_ptr<Authority>> Authority::Create(IdentityStore& store,
                                                       const Secret& cluster_key,
                                                       const Clock& clock, Lifetimes lifetimes) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key_pem, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(net::KeyPtr key, net::ReadPrivateKey(key_pem.Reveal()));
  MUSTER_ASSIGN_OR_RETURN(net::CertificatePtr certificate, SelfSigned(key.get(), clock.Now()));
  AuthorityRow row;
  row.certificate_der = net::CertificateDer(certificate.get());
  MUSTER_ASSIGN_OR_RETURN(row.sealed_key, Seal(cluster_key, key_pem.Reveal(), kPurpose));
  MUSTER_RETURN_IF_ERROR(
      store.SaveAuthority(row, {"control", "authority.create", "authority", "", clock.Now()}));
  return std::unique_ptr<Authority>(
      new Authority(std::move(key), std::move(certificate), clock, lifetimes));
}

StatusOr<std::unique_ptr<Authority>> Authority::Load(IdentityStore& store,
                                                     const Secret& cluster_key, const Clock& clock,
                                                     Lifetimes lifetimes) {
  MUSTER_ASSIGN_OR_RETURN(const AuthorityRow row, store.LoadAuthority());
  MUSTER_ASSIGN_OR_RETURN(const Secret key_pem, Unseal(cluster_key, row.sealed_key, kPurpose));
  MUSTER_ASSIGN_OR_RETURN(net::KeyPtr key, net::ReadPrivateKey(key_pem.Reveal()));
  MUSTER_ASSIGN_OR_RETURN(net::CertificatePtr certificate,
                          net::ParseCertificate(row.certificate_der));
  return std::unique_ptr<Authority>(
      new Authority(std::move(key), std::move(certificate), clock, lifetimes));
}

StatusOr<net::CertificatePtr> Authority::Sign(EVP_PKEY* subject_key, const std::string& uri,
                                              const std::string& name, absl::Duration lifetime,
                                              bool server) const {
  const absl::Time now = clock_.Now();
  net::CertificatePtr certificate(X509_new());
  X509* made = certificate.get();
  X509_set_version(made, X509_VERSION_3);
  SetRandomSerial(made);
  SetTimes(made, now - SkewFor(lifetime), std::min(now + lifetime, not_after_));
  SetName(X509_get_subject_name(made), name);
  X509_set_issuer_name(made, X509_get_subject_name(certificate_.get()));
  X509_set_pubkey(made, subject_key);
  X509* issuer = certificate_.get();
  const std::string names =
      server ? fmt::format("URI:{},DNS:{}", uri, net::kServerName) : "URI:" + uri;
  MUSTER_RETURN_IF_ERROR(AddExtension(made, issuer, NID_basic_constraints, "critical,CA:FALSE"));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, issuer, NID_key_usage, "critical,digitalSignature"));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, issuer, NID_ext_key_usage,
                                      server ? "serverAuth,clientAuth" : "clientAuth"));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, issuer, NID_subject_alt_name, names));
  MUSTER_RETURN_IF_ERROR(AddExtension(made, issuer, NID_authority_key_identifier, "keyid"));
  if (X509_sign(made, key_.get(), EVP_sha256()) <= 0)
    return Internal("could not sign: {}", net::LastSslError());
  return certificate;
}

StatusOr<Issued> Authority::Issue(v1::Role role, std::string_view name,
                                  std::string_view csr_der) const {
  if (!net::IsIdentityName(name)) {
    return InvalidArgument(
        "\"{}\" is not a name: use lower-case letters, digits, '-' and '.', at most 63", name);
  }
  MUSTER_ASSIGN_OR_RETURN(const net::RequestPtr request, net::ParseRequest(csr_der));
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr || X509_REQ_verify(request.get(), key) != 1) {
    ERR_clear_error();
    return InvalidArgument("the certificate request is not signed by its own key");
  }
  MUSTER_RETURN_IF_ERROR(StrongEnough(key));
  MUSTER_ASSIGN_OR_RETURN(
      const net::CertificatePtr certificate,
      Sign(key, net::SpiffeUri(role, name), std::string(name),
           role == v1::ROLE_AGENT ? lifetimes_.agent : lifetimes_.operators, false));
  Issued issued;
  const std::string der = net::CertificateDer(certificate.get());
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts facts, net::ReadCertificate(der));
  issued.row = {
      facts.fingerprint, role, std::string(name),           facts.serial, facts.not_before,
      facts.not_after,   der,  facts.public_key_fingerprint};
  issued.chain_der = {der, certificate_der_};
  return issued;
}

StatusOr<Authority::ServerCertificate> Authority::IssueServer(std::string_view replica) const {
  MUSTER_ASSIGN_OR_RETURN(const Secret key_pem, net::NewPrivateKey());
  MUSTER_ASSIGN_OR_RETURN(const net::KeyPtr key, net::ReadPrivateKey(key_pem.Reveal()));
  MUSTER_ASSIGN_OR_RETURN(const net::CertificatePtr certificate,
                          Sign(key.get(), fmt::format("spiffe://muster/control/{}", replica),
                               "control plane", lifetimes_.control, true));
  return ServerCertificate{
      net::DerToPem({net::CertificateDer(certificate.get()), certificate_der_}),
      std::string(key_pem.Reveal()), clock_.Now() + lifetimes_.control / 2};
}

StatusOr<std::string> Authority::SignText(std::string_view text) const {
  return net::SignText(key_.get(), text);
}

std::string Authority::RootsPem() const { return net::DerToPem({certificate_der_}); }

std::string Authority::Pin() const {
  return HexDecode(net::PublicKeyFingerprint(certificate_.get())).value_or("");
}

}  // namespace muster::control
