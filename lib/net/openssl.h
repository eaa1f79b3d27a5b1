// OpenSSL's objects with owners, and its errors as statuses.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/secret.h"
#include "lib/base/status.h"

namespace muster::net {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Freer<X509_free>>;
using DigestPtr = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Freer<SSL_free>>;

// What OpenSSL last complained of on this thread, and forgets it.
std::string LastSslError();

StatusOr<KeyPtr> ReadPrivateKey(std::string_view pem);
StatusOr<CertificatePtr> ParseCertificate(std::string_view der);
StatusOr<RequestPtr> ParseRequest(std::string_view der);
std::string CertificateDer(X509* certificate);
// SHA-256 of the SubjectPublicKeyInfo, hex.
std::string PublicKeyFingerprint(const X509* certificate);
// ECDSA or RSA with SHA-256, as DER.
StatusOr<std::string> SignText(EVP_PKEY* key, std::string_view text);
absl::Time FromAsn1(const ASN1_TIME* time);

}  // namespace muster::net
