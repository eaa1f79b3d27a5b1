-- Jobs and their runs. Times are microseconds since the epoch.
-- How far a job's slots are decided, and by which JobSpec: an edit counts from when it was applied.
CREATE TABLE jobs (
  name TEXT PRIMARY KEY, spec BYTES NOT NULL, generation BIGINT NOT NULL, decided_until BIGINT NOT NULL,
  -- The newest slot that is over, and how: what the job's alert goes by. 0: none yet.
  last_run TEXT NOT NULL, last_slot BIGINT NOT NULL, last_state BIGINT NOT NULL, last_reason TEXT NOT NULL,
  last_at BIGINT NOT NULL);
-- until is NULL while nobody has said when it ends.
CREATE TABLE job_pauses (
  id BIGINT PRIMARY KEY, job TEXT NOT NULL, since BIGINT NOT NULL, until BIGINT, reason TEXT NOT NULL,
  by TEXT NOT NULL);
CREATE INDEX job_pauses_by_job ON job_pauses (job, id);
-- phase: 1 waits, 2 assigned, 3 began, 4 its attempt ended and the leader judges, 5 over. state, trigger
-- and outcome as in the protocol. fence counts attempts. stop: 0 no, 1 asked to end, 2 to be ended. A time
-- of 0: not yet, or never.
CREATE TABLE runs (
  id TEXT PRIMARY KEY, job TEXT NOT NULL, slot BIGINT NOT NULL, trigger_kind BIGINT NOT NULL,
  asked_by TEXT NOT NULL, spec BYTES NOT NULL, phase BIGINT NOT NULL, state BIGINT NOT NULL,
  reason TEXT NOT NULL, due_at BIGINT NOT NULL, start_by BIGINT NOT NULL, agent TEXT NOT NULL,
  fence BIGINT NOT NULL, assigned_at BIGINT NOT NULL, started_at BIGINT NOT NULL, finished_at BIGINT NOT NULL,
  outcome BIGINT NOT NULL, exit_code BIGINT NOT NULL, stop BIGINT NOT NULL, stop_reason TEXT NOT NULL,
  progress BYTES NOT NULL, dropped_lines BIGINT NOT NULL, output_bytes BIGINT NOT NULL,
  UNIQUE (job, slot));
CREATE INDEX runs_open ON runs (phase) WHERE phase < 5;
CREATE INDEX runs_by_slot ON runs (slot, id);
-- Slots in a row that became no run.
CREATE TABLE missed_slots (
  id TEXT PRIMARY KEY, job TEXT NOT NULL, slot BIGINT NOT NULL, last_slot BIGINT NOT NULL,
  slots BIGINT NOT NULL, reason BIGINT NOT NULL, why TEXT NOT NULL, recorded_at BIGINT NOT NULL);
CREATE INDEX missed_by_slot ON missed_slots (slot, id);
CREATE INDEX missed_by_job ON missed_slots (job, slot);
CREATE TABLE run_trail (
  id BIGINT PRIMARY KEY, run TEXT NOT NULL, at BIGINT NOT NULL, what TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX run_trail_by_run ON run_trail (run, id);
CREATE TABLE run_output (
  run TEXT NOT NULL, fence BIGINT NOT NULL, first_line BIGINT NOT NULL, at BIGINT NOT NULL,
  stream BIGINT NOT NULL, body BYTES NOT NULL, PRIMARY KEY (run, fence, first_line, stream));
