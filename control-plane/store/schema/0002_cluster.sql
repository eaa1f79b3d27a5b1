-- The replicas of the control plane, and who leads them. Times are the database's own.
-- lost_at: when the leader declared it lost; NULL while it is not.
CREATE TABLE replicas (
  id TEXT PRIMARY KEY, incarnation BIGINT NOT NULL, addresses TEXT NOT NULL, version TEXT NOT NULL,
  started_at BIGINT NOT NULL, seen_at BIGINT NOT NULL, draining BIGINT NOT NULL, lost_at BIGINT);
-- One row. The epoch grows with every term; holder is empty when nobody leads.
CREATE TABLE lease (
  id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, holder TEXT NOT NULL, incarnation BIGINT NOT NULL,
  until BIGINT NOT NULL);
INSERT INTO lease (id, epoch, holder, incarnation, until) VALUES (1, 0, '', 0, 0);
-- 1: the session ended with its replica and not by itself. "replica" says which until the next one.
ALTER TABLE agents ADD COLUMN orphaned BIGINT NOT NULL DEFAULT 0;
CREATE INDEX agents_by_replica ON agents (replica);
