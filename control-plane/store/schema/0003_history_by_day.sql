-- History by the day of a segment's newest result, where the driver keeps tables so (docs/decisions/0034).
-- only: postgresql
ALTER TABLE segments RENAME TO segments_whole;
DROP INDEX segments_by_time;
CREATE TABLE segments (
  log_id BIGINT NOT NULL, first_sequence BIGINT NOT NULL, last_sequence BIGINT NOT NULL,
  first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, results BIGINT NOT NULL, payload BYTES NOT NULL)
  PARTITION BY RANGE (last_at);
CREATE INDEX segments_by_time ON segments (log_id, last_at, first_sequence, first_at);
CREATE TABLE segments_other PARTITION OF segments DEFAULT;
INSERT INTO segments SELECT * FROM segments_whole;
DROP TABLE segments_whole;
-- end
