-- What is left of events whose months were archived: what proofs need. Rows are appended and never change.

CREATE TABLE IF NOT EXISTS audit_archived (
    sequence    INTEGER PRIMARY KEY CHECK (sequence >= 0),
    event_hash  TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    archive     INTEGER NOT NULL          -- the sequence of the statement that says where the event is now
);
CREATE UNIQUE INDEX IF NOT EXISTS audit_archived_event_id ON audit_archived (event_id);

CREATE TRIGGER IF NOT EXISTS audit_archived_no_update BEFORE UPDATE ON audit_archived
BEGIN SELECT RAISE(ABORT, 'audit_archived is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_archived_no_delete BEFORE DELETE ON audit_archived
BEGIN SELECT RAISE(ABORT, 'audit_archived is append-only'); END;

CREATE TRIGGER IF NOT EXISTS audit_archived_no_replace BEFORE INSERT ON audit_archived
WHEN EXISTS (SELECT 1 FROM audit_archived WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'audit_archived is append-only'); END;
