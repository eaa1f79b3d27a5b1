-- Who has no session is asked for each second, and which tokens have expired with each new one: both are few of many.
-- oldest program: 4
CREATE INDEX agents_by_connection ON agents (connected, name);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);
