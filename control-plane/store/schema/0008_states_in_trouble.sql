-- What is not OK is asked for most, and is few of many: without its own index every state was looked at for it.
-- oldest program: 4
CREATE INDEX states_in_trouble ON states (agent, check_id) WHERE status <> 1;
