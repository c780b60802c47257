-- The sealed chain. Rows are appended and never change: see docs/protection.md.

CREATE TABLE IF NOT EXISTS audit_events (
    sequence       INTEGER PRIMARY KEY CHECK (sequence >= 0),  -- 0-based place in the chain
    event_id       TEXT NOT NULL,         -- UUIDv7
    timestamp      TEXT NOT NULL,         -- YYYY-MM-DDTHH:MM:SS.ffffffZ
    actor_id       TEXT,
    actor_type     TEXT NOT NULL,
    on_behalf_of   TEXT,
    tenant_id      TEXT,
    action         TEXT NOT NULL,
    resource_type  TEXT,
    resource_id    TEXT,
    outcome        TEXT NOT NULL,
    details        TEXT NOT NULL,         -- canonical JSON
    source         TEXT,
    ip_address     TEXT,
    user_agent     TEXT,
    request_id     TEXT,
    session_id     TEXT,
    private        TEXT NOT NULL,
    previous_hash  TEXT NOT NULL,         -- event_hash of the event before, 64 zeros for the first
    event_hash     TEXT NOT NULL          -- SHA-256(0x00 || record), lower-case hex
);

CREATE UNIQUE INDEX IF NOT EXISTS audit_events_event_id ON audit_events (event_id);
CREATE INDEX IF NOT EXISTS audit_events_actor ON audit_events (actor_id, timestamp);
CREATE INDEX IF NOT EXISTS audit_events_resource ON audit_events (resource_type, resource_id, timestamp);
CREATE INDEX IF NOT EXISTS audit_events_action ON audit_events (action, timestamp);
CREATE INDEX IF NOT EXISTS audit_events_timestamp ON audit_events (timestamp);

-- One signed tree head for every append. Two writers can never both append at the same place.
CREATE TABLE IF NOT EXISTS audit_checkpoints (
    tree_size       INTEGER PRIMARY KEY CHECK (tree_size > 0),
    first_sequence  INTEGER NOT NULL UNIQUE,
    root            TEXT NOT NULL,        -- base64, as in the signed note
    signature       TEXT NOT NULL,        -- base64 of key hash and Ed25519 signature
    frontier        BLOB,                 -- the tree's right edge, where it is kept
    sealed_at       TEXT NOT NULL
);

CREATE TRIGGER IF NOT EXISTS audit_events_no_update BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_events_no_delete BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END;

-- INSERT OR REPLACE deletes without firing a delete trigger. FAIL and not ABORT, which would have SQLite keep a copy
-- of every page that a row touches, for the case that half of the statement has to be undone: half as fast.
CREATE TRIGGER IF NOT EXISTS audit_events_no_replace BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
BEGIN SELECT RAISE(FAIL, 'audit_events is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_checkpoints_no_replace BEFORE INSERT ON audit_checkpoints
WHEN EXISTS (SELECT 1 FROM audit_checkpoints
             WHERE tree_size = NEW.tree_size OR first_sequence = NEW.first_sequence)
BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END;
