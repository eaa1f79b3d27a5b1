#include "control-plane/store/identity_store.h"

#include "control-plane/store/columns.h"

namespace muster::control {
namespace {

constexpr std::string_view kCertificateColumns =
    "fingerprint, role, name, serial, not_before, not_after, der, public_key";

CertificateRow ReadCertificateRow(const sql::Row& row) {
  CertificateRow certificate;
  certificate.fingerprint = row.Text(0);
  certificate.role = static_cast<v1::Role>(row.Int(1));
  certificate.name = row.Text(2);
  certificate.serial = row.Text(3);
  certificate.not_before = row.Time(4);
  certificate.not_after = row.Time(5);
  certificate.der = row.Text(6);
  certificate.public_key = row.Text(7);
  return certificate;
}

Status InsertCertificate(sql::Transaction& t, const CertificateRow& certificate) {
  return t
      .Execute(
          "INSERT INTO certificates (fingerprint, role, name, serial, not_before, not_after, der, "
          "public_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
          {std::string_view(certificate.fingerprint), int64_t{certificate.role},
           std::string_view(certificate.name), std::string_view(certificate.serial),
           sql::ToMicros(certificate.not_before), sql::ToMicros(certificate.not_after),
           sql::Bytes{certificate.der}, std::string_view(certificate.public_key)})
      .status();
}

Status UpsertAgent(sql::Transaction& t, const CertificateRow& certificate,
                   const std::string& labels) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, t.Query("SELECT id FROM agents WHERE name = $1",
                                                         {std::string_view(certificate.name)}));
  if (!found.empty()) {
    return t
        .Execute(
            "UPDATE agents SET labels = $1, revoked = 0, certificate_expires_at = $2 WHERE id = $3",
            {std::string_view(labels), sql::ToMicros(certificate.not_after), found[0].Int(0)})
        .status();
  }
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "agent"));
  return t
      .Execute(
          "INSERT INTO agents (id, name, labels, revoked, session_epoch, replica, connected, "
          "version, "
          "boot_id, log_epoch, clock_skew_us, facts, certificate_expires_at, states_epoch) "
          "VALUES ($1, $2, $3, 0, 0, '', 0, '', '', '', 0, '{}', $4, 0)",
          {id, std::string_view(certificate.name), std::string_view(labels),
           sql::ToMicros(certificate.not_after)})
      .status();
}

Status UpsertOperator(sql::Transaction& t, const CertificateRow& certificate) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found,
                          t.Query("SELECT revoked FROM operators WHERE name = $1",
                                  {std::string_view(certificate.name)}));
  if (!found.empty() && found[0].Int(0) != 0) {
    return PermissionDenied("operator {} was revoked; choose another name", certificate.name);
  }
  return t
      .Execute(
          "INSERT INTO operators (name, role, expires_at, revoked) VALUES ($1, $2, $3, 0) "
          "ON CONFLICT (name) DO UPDATE SET role = excluded.role, expires_at = excluded.expires_at",
          {std::string_view(certificate.name), int64_t{certificate.role},
           sql::ToMicros(certificate.not_after)})
      .status();
}

// A person keeps the certificates of earlier roles: all of them go, expired ones too, because an
// agent may show one to be let in again. An agent of the same name is another.
StatusOr<uint32_t> DenyAll(sql::Transaction& t, bool agent, std::string_view name, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT fingerprint FROM certificates WHERE role {} $1 AND name = $2",
                          agent ? "=" : "<>"),
              {int64_t{v1::ROLE_AGENT}, name}));
  uint32_t denied = 0;
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "denied"));
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t added,
        t.Execute("INSERT INTO denied (id, fingerprint, at) VALUES ($1, $2, $3) "
                  "ON CONFLICT (fingerprint) DO NOTHING",
                  {id, std::string_view(row.Text(0)), sql::ToMicros(now)}));
    denied += static_cast<uint32_t>(added);
  }
  return denied;
}

// One row changes for exactly one of all callers, on any database.
StatusOr<bool> ClaimToken(sql::Transaction& t, std::string_view token_hash,
                          const CertificateRow& certificate, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(
      const int64_t claimed,
      t.Execute(
          "UPDATE tokens SET used_by = $1, public_key = $2 WHERE hash = $3 "
          "AND used_by IS NULL AND expires_at > $4 AND agent = $5",
          {std::string_view(certificate.fingerprint), std::string_view(certificate.public_key),
           sql::Bytes{token_hash}, sql::ToMicros(now), std::string_view(certificate.name)}));
  return claimed == 1;
}

// What the same key was given for the same token.
StatusOr<CertificateRow> GivenBefore(sql::Transaction& t, std::string_view token_hash,
                                     const CertificateRow& certificate, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM certificates WHERE fingerprint = (SELECT used_by FROM "
                          "tokens WHERE hash = $1 AND public_key = $2 AND expires_at > $3 "
                          "AND agent = $4)",
                          kCertificateColumns),
              {sql::Bytes{token_hash}, std::string_view(certificate.public_key), sql::ToMicros(now),
               std::string_view(certificate.name)}));
  if (!rows.empty()) return ReadCertificateRow(rows[0]);
  return PermissionDenied(
      "the join token is unknown, expired or used; make another with: musterctl token create "
      "--agent {}",
      certificate.name);
}

}  // namespace

Status IdentityStore::SaveAuthority(const AuthorityRow& authority, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(
        t.Execute("INSERT INTO authority (id, certificate, sealed_key) VALUES (1, $1, $2)",
                  {sql::Bytes{authority.certificate_der}, sql::Bytes{authority.sealed_key}})
            .status());
    return AppendAudit(t, note);
  });
}

StatusOr<AuthorityRow> IdentityStore::LoadAuthority() {
  AuthorityRow authority;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT certificate, sealed_key FROM authority"));
    if (rows.empty())
      return NotFound("the store holds no authority; run muster-control init first");
    authority = {rows[0].Text(0), rows[0].Text(1)};
    return OkStatus();
  }));
  return authority;
}

Status IdentityStore::SaveToken(const TokenRow& token, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    const std::string labels = PackMap(token.labels);
    MUSTER_RETURN_IF_ERROR(
        t.Execute("INSERT INTO tokens (hash, agent, labels, expires_at) VALUES ($1, $2, $3, $4)",
                  {sql::Bytes{token.hash}, std::string_view(token.agent), std::string_view(labels),
                   sql::ToMicros(token.expires_at)})
            .status());
    // Tokens that nobody can use any more go after a day.
    MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM tokens WHERE expires_at < $1",
                                     {sql::ToMicros(note.at - absl::Hours(24))})
                               .status());
    return AppendAudit(t, note);
  });
}

StatusOr<TokenRow> IdentityStore::FindToken(std::string_view hash) {
  TokenRow token;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT agent, labels, expires_at FROM tokens WHERE hash = $1",
                                    {sql::Bytes{hash}}));
    if (rows.empty()) return NotFound("the join token is not known here");
    token = {std::string(hash), rows[0].Text(0), UnpackMap(rows[0].Text(1)), rows[0].Time(2)};
    return OkStatus();
  }));
  return token;
}

StatusOr<CertificateRow> IdentityStore::RedeemToken(std::string_view token_hash,
                                                    const CertificateRow& certificate,
                                                    absl::Time now, const AuditNote& note) {
  CertificateRow given;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    given = certificate;
    MUSTER_ASSIGN_OR_RETURN(const bool won, ClaimToken(t, token_hash, certificate, now));
    if (!won) {
      MUSTER_ASSIGN_OR_RETURN(given, GivenBefore(t, token_hash, certificate, now));
      return OkStatus();
    }
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows token,
        t.Query("SELECT labels FROM tokens WHERE hash = $1", {sql::Bytes{token_hash}}));
    MUSTER_RETURN_IF_ERROR(InsertCertificate(t, certificate));
    MUSTER_RETURN_IF_ERROR(UpsertAgent(t, certificate, token[0].Text(0)));
    return AppendAudit(t, note);
  }));
  return given;
}

Status IdentityStore::SaveCertificate(const CertificateRow& certificate, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    if (certificate.role == v1::ROLE_AGENT) {
      MUSTER_ASSIGN_OR_RETURN(
          const int64_t changed,
          t.Execute("UPDATE agents SET certificate_expires_at = $1 WHERE name = $2 AND revoked = 0",
                    {sql::ToMicros(certificate.not_after), std::string_view(certificate.name)}));
      if (changed == 0) return PermissionDenied("agent {} is unknown or revoked", certificate.name);
    } else if (certificate.role != v1::ROLE_UNSPECIFIED) {
      MUSTER_RETURN_IF_ERROR(UpsertOperator(t, certificate));
    }
    MUSTER_RETURN_IF_ERROR(InsertCertificate(t, certificate));
    return AppendAudit(t, note);
  });
}

StatusOr<uint32_t> IdentityStore::Revoke(v1::Role role, std::string_view name, absl::Time now,
                                         const AuditNote& note) {
  if (role != v1::ROLE_AGENT) return RevokeOperator(name, now, note);
  uint32_t denied = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    // The new session epoch fences what its live session has still under way.
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t changed,
        t.Execute("UPDATE agents SET revoked = 1, session_epoch = session_epoch + 1, replica = '', "
                  "disconnected_at = CASE WHEN connected = 1 THEN $1 ELSE disconnected_at END, "
                  "connected = 0 WHERE name = $2",
                  {sql::ToMicros(now), name}));
    if (changed == 0) return NotFound("there is no agent named {}", name);
    MUSTER_ASSIGN_OR_RETURN(denied, DenyAll(t, true, name, now));
    return AppendAudit(t, note);
  }));
  return denied;
}

StatusOr<uint32_t> IdentityStore::RevokeOperator(std::string_view name, absl::Time now,
                                                 const AuditNote& note) {
  uint32_t denied = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const int64_t changed,
                            t.Execute("UPDATE operators SET revoked = 1 WHERE name = $1", {name}));
    if (changed == 0) return NotFound("there is no operator named {}", name);
    MUSTER_ASSIGN_OR_RETURN(denied, DenyAll(t, false, name, now));
    return AppendAudit(t, note);
  }));
  return denied;
}

StatusOr<std::vector<DenyEntry>> IdentityStore::Denied(uint64_t after) {
  std::vector<DenyEntry> entries;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT id, fingerprint FROM denied WHERE id > $1 ORDER BY id", {Signed(after)}));
    entries.clear();
    for (const sql::Row& row : rows) entries.push_back({Unsigned(row.Int(0)), row.Text(1)});
    return OkStatus();
  }));
  return entries;
}

StatusOr<std::optional<CertificateRow>> IdentityStore::FindCertificate(
    std::string_view fingerprint) {
  std::optional<CertificateRow> found;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM certificates c WHERE fingerprint = $1 AND NOT EXISTS "
                            "(SELECT 1 FROM denied d WHERE d.fingerprint = c.fingerprint)",
                            kCertificateColumns),
                {fingerprint}));
    if (!rows.empty()) found = ReadCertificateRow(rows[0]);
    return OkStatus();
  }));
  return found;
}

StatusOr<std::vector<OperatorRow>> IdentityStore::ListOperators() {
  std::vector<OperatorRow> operators;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT name, role, expires_at, revoked FROM operators ORDER BY name"));
    operators.clear();
    for (const sql::Row& row : rows) {
      operators.push_back(
          {row.Text(0), static_cast<v1::Role>(row.Int(1)), row.Time(2), row.Int(3) != 0});
    }
    return OkStatus();
  }));
  return operators;
}

}  // namespace muster::control
