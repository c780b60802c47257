-- The sealed chain. Rows are appended and never change: see docs/protection.md.
-- Runs once, in one transaction, as the owner of the schema; PostgreSQL 14 and later.

CREATE TABLE audit.audit_events (
    sequence       bigint NOT NULL,       -- 0-based place in the chain
    timestamp      timestamptz NOT NULL,
    event_id       uuid NOT NULL,         -- UUIDv7
    actor_id       text,
    actor_type     text NOT NULL,
    on_behalf_of   text,
    tenant_id      text,
    action         text NOT NULL,
    resource_type  text,
    resource_id    text,
    outcome        text NOT NULL,
    details        jsonb NOT NULL,
    source         text,
    ip_address     inet,
    ip_text        text,                  -- what inet cannot hold as it is: a zone, "testclient"
    user_agent     text,
    request_id     text,
    session_id     text,
    private        text NOT NULL,
    previous_hash  bytea NOT NULL,        -- event_hash of the event before, 32 zeros for the first
    event_hash     bytea NOT NULL         -- SHA-256(0x00 || record)
) PARTITION BY RANGE (timestamp);

-- A month without a partition of its own loses nothing.
CREATE TABLE audit.audit_events_default PARTITION OF audit.audit_events DEFAULT;

CREATE INDEX audit_events_sequence ON audit.audit_events (sequence);
CREATE UNIQUE INDEX audit_events_event_id ON audit.audit_events (event_id, timestamp);
CREATE INDEX audit_events_actor ON audit.audit_events (actor_id, timestamp);
-- The beginning of an id: a hostile one of 500 characters would not fit, and hold up the sealer.
CREATE INDEX audit_events_resource ON audit.audit_events (resource_type, left(resource_id, 128), timestamp);
CREATE INDEX audit_events_action ON audit.audit_events (action, timestamp);
CREATE INDEX audit_events_timestamp ON audit.audit_events (timestamp);
-- The reports on failures and on privileged actions read few events out of many.
CREATE INDEX audit_events_failures ON audit.audit_events (outcome, timestamp) WHERE outcome <> 'success';
CREATE INDEX audit_events_privileged ON audit.audit_events (timestamp)
WHERE actor_type IN ('admin', 'service', 'system');

-- One signed tree head for every append. Two writers can never both append at the same place.
CREATE TABLE audit.audit_checkpoints (
    tree_size       bigint PRIMARY KEY,
    first_sequence  bigint NOT NULL UNIQUE,
    root            text NOT NULL,        -- base64, as in the signed note
    signature       text NOT NULL,        -- base64 of key hash and Ed25519 signature
    frontier        bytea,                -- the tree's right edge, where it is kept
    sealed_at       timestamptz NOT NULL
);

-- Grants do not bind the owner. Triggers do, until he removes them.
CREATE OR REPLACE FUNCTION audit.audit_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_events
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_events
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_events_default
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_checkpoints
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();

-- Partitions from this month on; the names of those that were missing. The sealer runs it too, and owns nothing.
CREATE OR REPLACE FUNCTION audit.audit_make_partitions(months_ahead integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
AS $$
DECLARE
    month timestamptz;
    name text;
    taken boolean;
BEGIN
    FOR month IN SELECT generate_series(date_trunc('month', now()),
                                        date_trunc('month', now()) + make_interval(months => months_ahead),
                                        '1 month') LOOP
        name := 'audit_events_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('audit.' || name) IS NOT NULL;
        SELECT EXISTS (SELECT 1 FROM audit.audit_events_default
                       WHERE timestamp >= month AND timestamp < month + interval '1 month') INTO taken;
        CONTINUE WHEN taken; -- `audit partitions --from-default` moves them first
        EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.audit_events FOR VALUES FROM (%L) TO (%L)',
                       name, month, month + interval '1 month');
        EXECUTE format('CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse()', name);
        RETURN NEXT name;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION audit.audit_make_partitions(integer) FROM PUBLIC;

SELECT audit.audit_make_partitions(3);

COMMENT ON TABLE audit.audit_events IS 'audit-core schema 1';
