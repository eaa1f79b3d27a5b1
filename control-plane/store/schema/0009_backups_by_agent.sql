-- How many backups an agent has told of is asked for with each new one.
-- oldest program: 4
CREATE INDEX backups_by_agent ON backups (agent);
