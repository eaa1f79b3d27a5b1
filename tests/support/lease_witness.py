"""What the database itself saw of leadership, beside what muster says: each change of the lease, and each statement
that only a leader may make, with who made it and who held the lease then. Triggers write it, in the transaction that
they watch, so nothing is in it that was not committed, and writers take turns, so it is in the order of commits.

A replica is known by the application_name in its store's URL: `url(store, name)`.
"""
import json

LEADERS_TABLES = ('alerts', 'alert_events', 'outbox')
NO_DATA = 5

MAKE = f'''
CREATE SCHEMA witness;
CREATE TABLE witness.leases (n BIGSERIAL, at BIGINT, writer TEXT, epoch BIGINT, holder TEXT, incarnation BIGINT,
  until BIGINT, epoch_before BIGINT, holder_before TEXT, until_before BIGINT);
CREATE TABLE witness.writes (n BIGSERIAL, at BIGINT, writer TEXT, what TEXT, epoch BIGINT, holder TEXT);
CREATE FUNCTION witness.now_us() RETURNS BIGINT LANGUAGE sql AS
  'SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)';
CREATE FUNCTION witness.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness.leases (at, writer, epoch, holder, incarnation, until, epoch_before, holder_before, until_before)
    VALUES (witness.now_us(), current_setting('application_name'), NEW.epoch, NEW.holder, NEW.incarnation, NEW.until,
            OLD.epoch, OLD.holder, OLD.until);
  RETURN NULL; END $$;
CREATE FUNCTION witness.note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness.writes (at, writer, what, epoch, holder)
    SELECT witness.now_us(), current_setting('application_name'), TG_OP || ' ' || TG_TABLE_NAME, epoch, holder
    FROM lease WHERE id = 1;
  RETURN NULL; END $$;
CREATE TRIGGER witness AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION witness.note_lease();
CREATE TRIGGER witness AFTER INSERT ON transitions FOR EACH ROW WHEN (NEW.to_status = {NO_DATA})
  EXECUTE FUNCTION witness.note_write();
CREATE TRIGGER witness AFTER UPDATE ON replicas FOR EACH ROW WHEN (NEW.lost_at IS NOT NULL AND OLD.lost_at IS NULL)
  EXECUTE FUNCTION witness.note_write();
''' + ''.join(f'''
CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT
  EXECUTE FUNCTION witness.note_write();''' for table in LEADERS_TABLES)


def url(store, name):
    return f'{store}?application_name={name}'


def install(postgres):
    postgres.sql(MAKE)


def rows(postgres, query):
    return json.loads(postgres.sql(f"SELECT coalesce(json_agg(r), '[]') FROM ({query}) r"))


def leases(postgres):
    return rows(postgres, 'SELECT * FROM witness.leases ORDER BY n')


def writes(postgres):
    """Alike ones counted together: there are tens of thousands in a long run."""
    return rows(postgres, 'SELECT writer, what, epoch, holder, count(*), min(at) AS at FROM witness.writes '
                          'GROUP BY writer, what, epoch, holder ORDER BY min(n)')
