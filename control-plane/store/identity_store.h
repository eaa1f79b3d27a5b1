// Agents, operators, join tokens, certificates, the deny set, and the authority's sealed key.
// Every change writes its audit entry in the same transaction (promise C14).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/audit.h"
#include "lib/sql/database.h"
#include "muster/v1/options.pb.h"

namespace muster::control {

using Labels = std::map<std::string, std::string>;

struct AuthorityRow {
  std::string certificate_der;
  std::string sealed_key;  // encrypted under the cluster key
};

struct TokenRow {
  std::string hash;  // SHA-256 of the token
  std::string agent;
  Labels labels;
  absl::Time expires_at;
};

struct CertificateRow {
  std::string fingerprint;  // SHA-256, hex
  v1::Role role = v1::ROLE_UNSPECIFIED;
  std::string name;
  std::string serial;
  absl::Time not_before;
  absl::Time not_after;
  std::string der;
  std::string public_key;  // fingerprint of the SubjectPublicKeyInfo
};

struct OperatorRow {
  std::string name;
  v1::Role role = v1::ROLE_UNSPECIFIED;
  absl::Time expires_at;
  bool revoked = false;
};

struct DenyEntry {
  uint64_t id = 0;  // ascending
  std::string fingerprint;
};

class IdentityStore {
 public:
  explicit IdentityStore(sql::Database& database) : database_(database) {}

  // AlreadyExists if there is one.
  Status SaveAuthority(const AuthorityRow& authority, const AuditNote& note);
  StatusOr<AuthorityRow> LoadAuthority();  // NotFound before init

  Status SaveToken(const TokenRow& token, const AuditNote& note);
  StatusOr<TokenRow> FindToken(std::string_view hash);
  // Trades the token for the certificate: exactly one of any number of callers wins. The same
  // public key may come again before the token expires and gets the certificate it was given
  // (returned). PermissionDenied: unknown, expired, or used by another key. Makes or updates the
  // agent's row; an agent that was revoked is allowed again by a new token.
  StatusOr<CertificateRow> RedeemToken(std::string_view token_hash,
                                       const CertificateRow& certificate, absl::Time now,
                                       const AuditNote& note);
  // Renewal, operators. For a role other than agent, makes the operator's row.
  // PermissionDenied if the name is revoked.
  Status SaveCertificate(const CertificateRow& certificate, const AuditNote& note);

  // Puts every certificate of the name into the deny set; returns how many. NotFound.
  StatusOr<uint32_t> Revoke(v1::Role role, std::string_view name, absl::Time now,
                            const AuditNote& note);
  // For operators, whose role the caller need not know.
  StatusOr<uint32_t> RevokeOperator(std::string_view name, absl::Time now, const AuditNote& note);
  // Entries with id > after.
  StatusOr<std::vector<DenyEntry>> Denied(uint64_t after);
  // Whether the certificate was issued by us and is not denied. For audits and doctor.
  StatusOr<std::optional<CertificateRow>> FindCertificate(std::string_view fingerprint);

  StatusOr<std::vector<OperatorRow>> ListOperators();

 private:
  sql::Database& database_;
};

}  // namespace muster::control
