-- Four roles to grant to those that log in. None of them owns anything; a superuser is bound by none of this.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['audit_application', 'audit_sealer', 'audit_auditor', 'audit_eraser'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA audit TO audit_application, audit_sealer, audit_auditor, audit_eraser;

-- The application adds events. It can neither read the trail nor forge it, nor choose an id.
REVOKE INSERT ON audit.audit_outbox FROM audit_application;
GRANT INSERT (event) ON audit.audit_outbox TO audit_application;

-- The sealer moves them into the chain. It can append there, and nothing else.
GRANT SELECT, INSERT, DELETE ON audit.audit_outbox TO audit_sealer;
GRANT SELECT, INSERT ON audit.audit_events, audit.audit_checkpoints TO audit_sealer;
GRANT SELECT ON audit.audit_archived TO audit_sealer; -- a month is archived by its owner
GRANT SELECT, UPDATE ON audit.audit_lock TO audit_sealer; -- to lock its row: a trigger refuses to change it
GRANT SELECT, INSERT, UPDATE, DELETE ON audit.audit_positions TO audit_sealer;
REVOKE ALL ON FUNCTION audit.audit_make_partitions(integer) FROM PUBLIC; -- a dump without the roles loses that
GRANT EXECUTE ON FUNCTION audit.audit_make_partitions(integer) TO audit_sealer;

GRANT SELECT, INSERT ON audit.audit_private TO audit_sealer;

-- The eraser removes personal values, and says so in the chain, with the key. It can neither record nor read an outbox.
GRANT SELECT, INSERT ON audit.audit_events, audit.audit_checkpoints TO audit_eraser;
GRANT SELECT, UPDATE ON audit.audit_lock TO audit_eraser;
GRANT SELECT, INSERT, DELETE ON audit.audit_private TO audit_eraser;

-- The auditor reads, also what still waits to be sealed.
GRANT SELECT ON audit.audit_events, audit.audit_checkpoints, audit.audit_archived, audit.audit_outbox,
    audit.audit_positions, audit.audit_private TO audit_auditor;
GRANT SELECT ON audit.audit_archived TO audit_eraser;
