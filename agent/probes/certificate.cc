#include "agent/probes/certificate.h"

#include <ctime>
#include <memory>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace muster::agent {
namespace {

void Add(const X509& certificate, std::optional<ChainEnd>& end) {
  const absl::Time not_after = NotAfter(certificate);
  if (end && end->not_after <= not_after) return;
  end = ChainEnd{.not_after = not_after, .subject = SubjectOf(certificate)};
}

}  // namespace

absl::Time NotAfter(const x509_st& certificate) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string SubjectOf(const x509_st& certificate) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), &BIO_free);
  if (bio == nullptr) return "";
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(&certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return size <= 0 ? std::string() : std::string(text, static_cast<size_t>(size));
}

std::optional<ChainEnd> PeerChainEnd(const ssl_st& tls) {
  std::optional<ChainEnd> end;
  const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(&tls);
  if (chain == nullptr) return end;
  for (int i = 0; i < sk_X509_num(chain); ++i) Add(*sk_X509_value(chain, i), end);
  return end;
}

void AddPem(std::string_view pem, std::optional<ChainEnd>& end) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), &X509_free);
  if (certificate != nullptr) Add(*certificate, end);
}

}  // namespace muster::agent
