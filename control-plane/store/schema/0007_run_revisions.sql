-- When a run changed, as run_revision counts: what the leader reads again. What an older program changed
-- beside this one has an older number; the leader reads everything now and then.
-- oldest program: 4
ALTER TABLE runs ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_by_revision ON runs (revision);
