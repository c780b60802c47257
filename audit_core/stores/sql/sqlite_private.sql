-- Personal values of sealed events, which their records commit to. A row may be erased, and never changes: see
-- docs/erasure.md.

CREATE TABLE IF NOT EXISTS audit_private (
    sequence  INTEGER NOT NULL CHECK (sequence >= 0),  -- of the event
    name      TEXT NOT NULL,                           -- its place in the event: a JSON Pointer
    salt      TEXT NOT NULL,                           -- base64 of 32 random bytes
    value     TEXT NOT NULL,                           -- canonical JSON
    PRIMARY KEY (sequence, name)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS audit_private_no_update BEFORE UPDATE ON audit_private
BEGIN SELECT RAISE(ABORT, 'audit_private never changes'); END;

-- INSERT OR REPLACE deletes without firing a delete trigger.
CREATE TRIGGER IF NOT EXISTS audit_private_no_replace BEFORE INSERT ON audit_private
WHEN EXISTS (SELECT 1 FROM audit_private WHERE sequence = NEW.sequence AND name = NEW.name)
BEGIN SELECT RAISE(FAIL, 'audit_private never changes'); END;
