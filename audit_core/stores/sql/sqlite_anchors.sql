-- Checkpoints of a trail that lies in another database. Rows are appended and never change.

CREATE TABLE IF NOT EXISTS audit_anchors (
    tree_size  INTEGER NOT NULL,
    root       TEXT NOT NULL,                                             -- base64, as in the note
    note       TEXT NOT NULL,                                             -- C2SP signed note
    kept_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z')), -- UTC
    PRIMARY KEY (tree_size, root)
);
CREATE TRIGGER IF NOT EXISTS audit_anchors_no_update BEFORE UPDATE ON audit_anchors
BEGIN SELECT RAISE(ABORT, 'audit_anchors is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_anchors_no_delete BEFORE DELETE ON audit_anchors
BEGIN SELECT RAISE(ABORT, 'audit_anchors is append-only'); END;
