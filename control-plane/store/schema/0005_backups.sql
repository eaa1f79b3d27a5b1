-- The catalogue of backups. Times are microseconds since the epoch; 0: not, or not yet.
-- oldest program: 4
CREATE TABLE backups (
  snapshot_id TEXT PRIMARY KEY, job TEXT NOT NULL, agent TEXT NOT NULL, run TEXT NOT NULL,
  -- The JobSpec that it was made by; what is known of it, a Backup; the rows of its tables, a Backup with
  -- nothing else.
  spec BYTES NOT NULL, body BYTES NOT NULL, tables BYTES NOT NULL, taken_at BIGINT NOT NULL,
  held_because TEXT NOT NULL, held_by TEXT NOT NULL, forgotten_at BIGINT NOT NULL, forgotten_by TEXT NOT NULL);
CREATE INDEX backups_by_time ON backups (taken_at, snapshot_id);
-- Why what keep does not keep could not be removed the last time; empty if it could.
ALTER TABLE jobs ADD COLUMN keep_problem TEXT NOT NULL DEFAULT '';
-- What a run does beside its job's own task: "verify", "restore", "forget", "list".
ALTER TABLE runs ADD COLUMN action TEXT NOT NULL DEFAULT '';
