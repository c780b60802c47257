-- Checkpoints of a trail that lies in another database. Rows are appended and never change: whoever keeps them here
-- needs USAGE on the schema, and INSERT and SELECT on the table. The owner should be somebody else.

CREATE TABLE IF NOT EXISTS audit.audit_anchors (
    tree_size  bigint NOT NULL,
    root       text NOT NULL,                  -- base64, as in the note
    note       text NOT NULL,                  -- C2SP signed note
    kept_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tree_size, root)
);
CREATE OR REPLACE FUNCTION audit.audit_refuse_anchor() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_anchors
FOR EACH ROW EXECUTE FUNCTION audit.audit_refuse_anchor();
CREATE OR REPLACE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_anchors
FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse_anchor();
