-- Personal values of sealed events, which their records commit to. A row may be erased, by who may do that, and never
-- changes: see docs/erasure.md.

CREATE TABLE audit.audit_private (
    sequence  bigint NOT NULL,    -- of the event
    name      text NOT NULL,      -- its place in the event: a JSON Pointer
    salt      text NOT NULL,      -- base64 of 32 random bytes
    value     text NOT NULL,      -- canonical JSON
    PRIMARY KEY (sequence, name)
);

-- Where the roles have been given the rest of this trail, they are given this, too.
DO $$
BEGIN
    IF to_regrole('audit_sealer') IS NOT NULL
       AND has_table_privilege('audit_sealer', 'audit.audit_events', 'INSERT') THEN
        GRANT SELECT, INSERT ON audit.audit_private TO audit_sealer;
    END IF;
    IF to_regrole('audit_auditor') IS NOT NULL
       AND has_table_privilege('audit_auditor', 'audit.audit_events', 'SELECT') THEN
        GRANT SELECT ON audit.audit_private TO audit_auditor;
    END IF;
END $$;

CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit.audit_private
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_private
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse();
