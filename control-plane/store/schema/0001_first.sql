-- Times are microseconds since the epoch. BYTES is replaced by the driver.
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE audit (
  sequence BIGINT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
  subject TEXT NOT NULL, detail TEXT NOT NULL, hash BYTES NOT NULL);
CREATE TABLE authority (id BIGINT PRIMARY KEY, certificate BYTES NOT NULL, sealed_key BYTES NOT NULL);
CREATE TABLE tokens (
  hash BYTES PRIMARY KEY, agent TEXT NOT NULL, labels TEXT NOT NULL, expires_at BIGINT NOT NULL,
  used_by TEXT, public_key TEXT);
CREATE TABLE certificates (
  fingerprint TEXT PRIMARY KEY, role BIGINT NOT NULL, name TEXT NOT NULL, serial TEXT NOT NULL,
  not_before BIGINT NOT NULL, not_after BIGINT NOT NULL, der BYTES NOT NULL, public_key TEXT NOT NULL);
CREATE INDEX certificates_by_name ON certificates (role, name, not_after);
CREATE TABLE denied (id BIGINT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, at BIGINT NOT NULL);
CREATE TABLE operators (
  name TEXT PRIMARY KEY, role BIGINT NOT NULL, expires_at BIGINT NOT NULL, revoked BIGINT NOT NULL);
CREATE TABLE specs (
  kind TEXT NOT NULL, name TEXT NOT NULL, document BYTES NOT NULL, generation BIGINT NOT NULL,
  hash TEXT NOT NULL, changed_at BIGINT NOT NULL, changed_by TEXT NOT NULL, check_id BIGINT NOT NULL,
  PRIMARY KEY (kind, name));
-- A check's number is given out once and kept for ever.
CREATE TABLE check_names (name TEXT PRIMARY KEY, id BIGINT NOT NULL UNIQUE);
CREATE TABLE agents (
  id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, labels TEXT NOT NULL, revoked BIGINT NOT NULL,
  session_epoch BIGINT NOT NULL, replica TEXT NOT NULL, connected BIGINT NOT NULL,
  last_seen_at BIGINT, disconnected_at BIGINT, version TEXT NOT NULL, boot_id TEXT NOT NULL,
  log_epoch TEXT NOT NULL, clock_skew_us BIGINT NOT NULL, facts TEXT NOT NULL,
  certificate_expires_at BIGINT, states_epoch BIGINT NOT NULL);
CREATE TABLE logs (
  agent_id BIGINT NOT NULL, log_epoch TEXT NOT NULL, id BIGINT NOT NULL UNIQUE, committed BIGINT NOT NULL,
  observations BYTES NOT NULL, PRIMARY KEY (agent_id, log_epoch));
CREATE TABLE gaps (
  id BIGINT PRIMARY KEY, agent_id BIGINT NOT NULL, log_epoch TEXT NOT NULL, gap BYTES NOT NULL,
  recorded_at BIGINT NOT NULL);
CREATE INDEX gaps_by_agent ON gaps (agent_id, id);
CREATE TABLE segments (
  log_id BIGINT NOT NULL, first_sequence BIGINT NOT NULL, last_sequence BIGINT NOT NULL,
  first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, results BIGINT NOT NULL, payload BYTES NOT NULL);
-- The only index on history, and not unique: the cursor in "logs" is what keeps a batch from coming twice.
CREATE INDEX segments_by_time ON segments (log_id, last_at, first_sequence, first_at);
CREATE TABLE states (
  agent TEXT NOT NULL, check_id BIGINT NOT NULL, status BIGINT NOT NULL, hard BIGINT NOT NULL,
  seen BIGINT NOT NULL, needed BIGINT NOT NULL, hard_status BIGINT NOT NULL, since BIGINT NOT NULL,
  observed_at BIGINT NOT NULL, latency_us BIGINT NOT NULL, summary TEXT NOT NULL,
  last_failure_at BIGINT, detail BYTES NOT NULL, revision BIGINT NOT NULL,
  PRIMARY KEY (agent, check_id));
CREATE UNIQUE INDEX states_by_revision ON states (revision);
CREATE TABLE removed_states (revision BIGINT PRIMARY KEY, agent TEXT NOT NULL, check_id BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE TABLE transitions (
  id BIGINT PRIMARY KEY, agent TEXT NOT NULL, check_id BIGINT NOT NULL, from_status BIGINT NOT NULL,
  to_status BIGINT NOT NULL, hard BIGINT NOT NULL, at BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
  summary TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX transitions_by_agent ON transitions (agent, check_id, at);
CREATE TABLE alerts (
  id TEXT PRIMARY KEY, key TEXT NOT NULL, name TEXT NOT NULL, severity BIGINT NOT NULL, state BIGINT NOT NULL,
  check_name TEXT NOT NULL, agent TEXT NOT NULL, started_at BIGINT NOT NULL, fired_at BIGINT,
  resolved_at BIGINT, summary TEXT NOT NULL, description TEXT NOT NULL, runbook TEXT NOT NULL,
  inhibited_by TEXT NOT NULL, told BIGINT NOT NULL);
CREATE UNIQUE INDEX alerts_open_key ON alerts (key) WHERE state < 3;
CREATE INDEX alerts_by_state ON alerts (state, started_at);
CREATE INDEX alerts_by_start ON alerts (started_at, id);
CREATE TABLE alert_events (
  id BIGINT PRIMARY KEY, alert_id TEXT NOT NULL, at BIGINT NOT NULL, what TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX alert_events_by_alert ON alert_events (alert_id, id);
CREATE TABLE outbox (
  id BIGINT PRIMARY KEY, alert_id TEXT NOT NULL, receiver TEXT NOT NULL, event TEXT NOT NULL,
  payload BYTES NOT NULL, state BIGINT NOT NULL, attempts BIGINT NOT NULL, created_at BIGINT NOT NULL,
  next_attempt_at BIGINT NOT NULL, delivered_at BIGINT, last_error TEXT NOT NULL);
CREATE INDEX outbox_due ON outbox (state, next_attempt_at);
CREATE INDEX outbox_by_alert ON outbox (alert_id, receiver, id);
