-- What is left of events whose months were archived: what proofs need. Rows are appended and never change.

CREATE TABLE audit.audit_archived (
    sequence    bigint PRIMARY KEY,
    archive     bigint NOT NULL,          -- the sequence of the statement that says where the event is now
    event_id    uuid NOT NULL UNIQUE,
    event_hash  bytea NOT NULL
);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_archived
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_archived
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();
