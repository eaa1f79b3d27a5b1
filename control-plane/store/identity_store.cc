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
      .Execute("INSERT INTO certificates (fingerprint, role, name, serial, not_before, not_after, der, "
               "public_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
               {std::string_view(certificate.fingerprint), int64_t{certificate.role},
                std::string_view(certificate.name), std::string_view(certificate.serial),
                sql::ToMicros(certificate.not_before), sql::ToMicros(certificate.not_after),
                sql::Bytes{certificate.der}, std::string_view(certificate.public_key)})
      .status();
}

Status UpsertAgent(sql::Transaction& t, const CertificateRow& certificate, const std::string& labels) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found,
                          t.Query("SELECT id FROM agents WHERE name = $1", {std::string_view(certificate.name)}));
  if (!found.empty()) {
    return t
        .Execute("UPDATE agents SET labels = $1, revoked = 0, certificate_expires_at = $2 WHERE id = $3",
                 {std::string_view(labels), sql::ToMicros(certificate.not_after), found[0].Int(0)})
        .status();
  }
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "agent"));
  return t
      .Execute("INSERT INTO agents (id, name, labels, revoked, session_epoch, replica, connected, version, "
               "boot_id, log_epoch, clock_skew_us, facts, certificate_expires_at) "
               "VALUES ($1, $2, $3, 0, 0, '', 0, '', '', '', 0, '{}', $4)",
               {id, std::string_view(certificate.name), std::string_view(labels),
                sql::ToMicros(certificate.not_after)})
      .status();
}

Status UpsertOperator(sql::Transaction& t, const CertificateRow& certificate) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, t.Query("SELECT revoked FROM operators WHERE name = $1",
                                                         {std::string_view(certificate.name)}));
  if (!found.empty() && found[0].Int(0) != 0) {
    return PermissionDenied("operator {} was revoked; choose another name", certificate.name);
  }
  return t
      .Execute("INSERT INTO operators (name, role, expires_at, revoked) VALUES ($1, $2, $3, 0) "
               "ON CONFLICT (name) DO UPDATE SET role = excluded.role, expires_at = excluded.expires_at",
               {std::string_view(certificate.name), int64_t{certificate.role},
                sql::ToMicros(certificate.not_after)})
      .status();
}

StatusOr<uint32_t> DenyAll(sql::Transaction& t, v1::Role role, std::string_view name, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query("SELECT fingerprint FROM certificates WHERE role = $1 AND name = $2 AND not_after > $3",
              {int64_t{role}, name, sql::ToMicros(now)}));
  uint32_t denied = 0;
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "denied"));
    MUSTER_ASSIGN_OR_RETURN(const int64_t added,
                            t.Execute("INSERT INTO denied (id, fingerprint, at) VALUES ($1, $2, $3) "
                                      "ON CONFLICT (fingerprint) DO NOTHING",
                                      {id, std::string_view(row.Text(0)), sql::ToMicros(now)}));
    denied += static_cast<uint32_t>(added);
  }
  return denied;
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
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query("SELECT certificate, sealed_key FROM authority"));
    if (rows.empty()) return NotFound("the store holds no authority; run muster-control init first");
    authority = {rows[0].Text(0), rows[0].Text(1)};
    return OkStatus();
  }));
  return authority;
}

Status IdentityStore::SaveToken(const TokenRow& token, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    const std::string labels = PackMap(token.labels);
    MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO tokens (hash, agent, labels, expires_at) VALUES ($1, $2, $3, $4)",
                                     {sql::Bytes{token.hash}, std::string_view(token.agent),
                                      std::string_view(labels), sql::ToMicros(token.expires_at)})
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
                            t.Query("SELECT agent, labels, expires_at FROM tokens WHERE hash = $1", {sql::Bytes{hash}}));
    if (rows.empty()) return NotFound("the join token is not known here");
    token = {std::string(hash), rows[0].Text(0), UnpackMap(rows[0].Text(1)), rows[0].Time(2)};
    return OkStatus();
  }));
  return token;
}

StatusOr<CertificateRow> IdentityStore::RedeemToken(std::string_view token_hash, const CertificateRow& certificate,
                                                    absl::Time now, const AuditNote& note) {
  CertificateRow given = certificate;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    const Status refused = PermissionDenied(
        "the join token is unknown, expired or used; make another with: musterctl token create --agent {}",
        certificate.name);
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT agent, labels, expires_at, used_by, public_key FROM tokens WHERE hash = $1",
                {sql::Bytes{token_hash}}));
    if (rows.empty() || rows[0].Time(2) <= now || rows[0].Text(0) != certificate.name) return refused;
    if (!rows[0].IsNull(3)) {
      if (rows[0].Text(4) != certificate.public_key) return refused;
      MUSTER_ASSIGN_OR_RETURN(const sql::Rows old,
                              t.Query(fmt::format("SELECT {} FROM certificates WHERE fingerprint = $1", kCertificateColumns),
                                      {std::string_view(rows[0].Text(3))}));
      if (old.empty()) return refused;
      given = ReadCertificateRow(old[0]);
      return OkStatus();
    }
    MUSTER_RETURN_IF_ERROR(t.Execute("UPDATE tokens SET used_by = $1, public_key = $2 WHERE hash = $3 AND used_by IS NULL",
                                     {std::string_view(certificate.fingerprint),
                                      std::string_view(certificate.public_key), sql::Bytes{token_hash}})
                               .status());
    MUSTER_RETURN_IF_ERROR(InsertCertificate(t, certificate));
    MUSTER_RETURN_IF_ERROR(UpsertAgent(t, certificate, rows[0].Text(1)));
    return AppendAudit(t, note);
  }));
  return given;
}

Status IdentityStore::SaveCertificate(const CertificateRow& certificate, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    if (certificate.role == v1::ROLE_AGENT) {
      MUSTER_ASSIGN_OR_RETURN(const int64_t changed,
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
  uint32_t denied = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    const bool agent = role == v1::ROLE_AGENT;
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t changed,
        agent ? t.Execute("UPDATE agents SET revoked = 1 WHERE name = $1", {name})
              : t.Execute("UPDATE operators SET revoked = 1 WHERE name = $1 AND role = $2", {name, int64_t{role}}));
    if (changed == 0) return NotFound("there is no {} named {}", agent ? "agent" : "operator", name);
    MUSTER_ASSIGN_OR_RETURN(denied, DenyAll(t, role, name, now));
    return AppendAudit(t, note);
  }));
  return denied;
}

StatusOr<uint32_t> IdentityStore::RevokeOperator(std::string_view name, absl::Time now, const AuditNote& note) {
  v1::Role role = v1::ROLE_UNSPECIFIED;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query("SELECT role FROM operators WHERE name = $1", {name}));
    if (rows.empty()) return NotFound("there is no operator named {}", name);
    role = static_cast<v1::Role>(rows[0].Int(0));
    return OkStatus();
  }));
  return Revoke(role, name, now, note);
}

StatusOr<std::vector<DenyEntry>> IdentityStore::Denied(uint64_t after) {
  std::vector<DenyEntry> entries;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT id, fingerprint FROM denied WHERE id > $1 ORDER BY id", {Signed(after)}));
    entries.clear();
    for (const sql::Row& row : rows) entries.push_back({Unsigned(row.Int(0)), row.Text(1)});
    return OkStatus();
  }));
  return entries;
}

StatusOr<std::optional<CertificateRow>> IdentityStore::FindCertificate(std::string_view fingerprint) {
  std::optional<CertificateRow> found;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM certificates c WHERE fingerprint = $1 AND NOT EXISTS "
                            "(SELECT 1 FROM denied d WHERE d.fingerprint = c.fingerprint)", kCertificateColumns),
                {fingerprint}));
    if (!rows.empty()) found = ReadCertificateRow(rows[0]);
    return OkStatus();
  }));
  return found;
}

StatusOr<std::vector<OperatorRow>> IdentityStore::ListOperators() {
  std::vector<OperatorRow> operators;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT name, role, expires_at, revoked FROM operators ORDER BY name"));
    operators.clear();
    for (const sql::Row& row : rows) {
      operators.push_back({row.Text(0), static_cast<v1::Role>(row.Int(1)), row.Time(2), row.Int(3) != 0});
    }
    return OkStatus();
  }));
  return operators;
}

}  // namespace muster::control
