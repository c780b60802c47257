-- Where committed events wait to be sealed: in the database that changes, in the transaction that changes it.

CREATE TABLE IF NOT EXISTS audit.audit_outbox (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event  text NOT NULL                  -- JSON
);

-- Rows live for a moment: what is left of them must not wait for a fifth of the table.
ALTER TABLE audit.audit_outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
