-- A value's text as JSON. What no record can hold keeps its beginning; longer ones could not even be put together.
CREATE OR REPLACE FUNCTION audit.audit_json(value text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN octet_length(value) <= 65535 THEN to_json(value)::text
                WHEN value IS NULL THEN 'null'
                ELSE to_json(left(value, 256) || '…[cut: ' || octet_length(value) || ' bytes, sha256:'
                             || encode(sha256(convert_to(value, 'UTF8')), 'hex') || ']')::text END
$$;
REVOKE ALL ON FUNCTION audit.audit_json(text) FROM PUBLIC;
