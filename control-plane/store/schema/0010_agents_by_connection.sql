-- Who has no session is asked for each second, and is few of many.
-- oldest program: 4
CREATE INDEX agents_by_connection ON agents (connected, name);
