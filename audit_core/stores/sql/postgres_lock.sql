-- Whoever seals holds the one row of this table until his transaction ends, and nobody may hold it but the sealer.

CREATE TABLE audit.audit_lock (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);

INSERT INTO audit.audit_lock DEFAULT VALUES;

-- To lock a row takes the permission to change it.
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_lock
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_lock
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();
