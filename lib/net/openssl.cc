#include "lib/net/openssl.h"

#include <absl/time/time.h>

#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::net {

std::string LastSslError() {
  std::string text = "unknown error";
  while (const unsigned long code = ERR_get_error()) {
    char buffer[256];
    ERR_error_string_n(code, buffer, sizeof buffer);
    text = buffer;
  }
  return text;
}

StatusOr<KeyPtr> ReadPrivateKey(std::string_view pem) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (key == nullptr) {
    (void)LastSslError();
    return InvalidArgument("the private key cannot be read as PEM");
  }
  return key;
}

StatusOr<CertificatePtr> ParseCertificate(std::string_view der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  CertificatePtr certificate(d2i_X509(nullptr, &bytes, static_cast<long>(der.size())));
  if (certificate == nullptr)
    return InvalidArgument("the certificate cannot be read: {}", LastSslError());
  return certificate;
}

StatusOr<RequestPtr> ParseRequest(std::string_view der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  RequestPtr request(d2i_X509_REQ(nullptr, &bytes, static_cast<long>(der.size())));
  if (request == nullptr)
    return InvalidArgument("the certificate request cannot be read: {}", LastSslError());
  return request;
}

std::string CertificateDer(X509* certificate) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(certificate, &bytes);
  std::string der(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

std::string PublicKeyFingerprint(const X509* certificate) {
  // The bytes as they stand in the certificate: OpenSSL 3 takes long to encode the key anew.
  unsigned char* bytes = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &bytes);
  const std::string der(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return HexEncode(Sha256(der));
}

StatusOr<std::string> SignText(EVP_PKEY* key, std::string_view text) {
  const DigestPtr digest(EVP_MD_CTX_new());
  size_t size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  if (EVP_DigestSignInit(digest.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
      EVP_DigestSign(digest.get(), nullptr, &size, bytes, text.size()) != 1) {
    return Internal("could not sign: {}", LastSslError());
  }
  std::string signature(size, '\0');
  if (EVP_DigestSign(digest.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes,
                     text.size()) != 1) {
    return Internal("could not sign: {}", LastSslError());
  }
  signature.resize(size);
  return signature;
}

absl::Time FromAsn1(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

}  // namespace muster::net
