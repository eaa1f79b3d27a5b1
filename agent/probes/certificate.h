// How long certificates last.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <absl/time/time.h>

struct ssl_st;
struct x509_st;

namespace muster::agent {

// When the first certificate of the chain to end ends, and whose it is.
struct ChainEnd {
  absl::Time not_after = absl::InfiniteFuture();
  std::string subject;  // "CN=db.example"
};

absl::Time NotAfter(const x509_st& certificate);
std::string SubjectOf(const x509_st& certificate);
// Of the chain that the peer sent. Nothing if it sent none.
std::optional<ChainEnd> PeerChainEnd(const ssl_st& tls);
// Takes one more certificate, in PEM, into account.
void AddPem(std::string_view pem, std::optional<ChainEnd>& end);

}  // namespace muster::agent
