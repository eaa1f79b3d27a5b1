-- Runs that the host began itself, and tells of. They are known by an id of the agent's making; '' where muster
-- began it.
-- oldest program: 4
ALTER TABLE runs ADD COLUMN reported_id TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX runs_by_report ON runs (agent, reported_id) WHERE reported_id <> '';
