// The certificate authority inside the control plane. Everything in a certificate but its public
// key is the authority's decision: subject, SPIFFE URI, usages and lifetime; what a request asks
// for is ignored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control-plane/store/identity_store.h"
#include "lib/base/clock.h"
#include "lib/base/secret.h"
#include "lib/net/openssl.h"
#include "muster/v1/options.pb.h"

namespace muster::control {

struct Issued {
  CertificateRow row;                  // to be stored by the caller
  std::vector<std::string> chain_der;  // leaf, then the authority
};

struct Lifetimes {
  absl::Duration agent = absl::Hours(24 * 7);
  absl::Duration operators = absl::Hours(24 * 365);
  absl::Duration control = absl::Hours(24 * 90);
};

// Any thread may call.
class Authority {
 public:
  // Makes a new one in the store, its key sealed under the cluster key. AlreadyExists if there is
  // one.
  static StatusOr<std::unique_ptr<Authority>> Create(IdentityStore& store,
                                                     const Secret& cluster_key, const Clock& clock,
                                                     Lifetimes lifetimes = {});
  static StatusOr<std::unique_ptr<Authority>> Load(IdentityStore& store, const Secret& cluster_key,
                                                   const Clock& clock, Lifetimes lifetimes = {});

  // InvalidArgument for a request that is not signed by its own key, or whose key is too weak.
  StatusOr<Issued> Issue(v1::Role role, std::string_view name, std::string_view csr_der) const;
  // For a replica's own ports. Not stored.
  struct ServerCertificate {
    std::string chain_pem;
    std::string key_pem;
    absl::Time renew_at;  // half of its life is over
  };
  StatusOr<ServerCertificate> IssueServer(std::string_view replica) const;

  // ECDSA with SHA-256, as DER, over a text of the caller's own making: never over bytes that came
  // from elsewhere.
  StatusOr<std::string> SignText(std::string_view text) const;

  const std::string& certificate_der() const { return certificate_der_; }
  std::string RootsPem() const;
  // SHA-256 of the SubjectPublicKeyInfo, 32 bytes: what join strings carry.
  std::string Pin() const;
  absl::Time not_after() const { return not_after_; }

 private:
  Authority(net::KeyPtr key, net::CertificatePtr certificate, const Clock& clock,
            Lifetimes lifetimes);
  StatusOr<net::CertificatePtr> Sign(EVP_PKEY* subject_key, const std::string& uri,
                                     const std::string& name, absl::Duration lifetime,
                                     bool server) const;

  net::KeyPtr key_;
  net::CertificatePtr certificate_;
  std::string certificate_der_;
  absl::Time not_after_;
  const Clock& clock_;
  const Lifetimes lifetimes_;
};

}  // namespace muster::control
