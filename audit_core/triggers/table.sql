CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp{settings} AS {quote}
#variable_conflict use_column
<<audit_>>
DECLARE
    said text := left(current_setting('audit.context', true), 16000);
    head text := concat('{{"trigger": {version}, "timestamp": "',
        to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        CASE WHEN said <> '' THEN '", "context": ' || to_json(said)::text
             ELSE '", "connection": ' || json_build_object('user', session_user, 'superuser',
                  current_setting('is_superuser'), 'application_name', current_setting('application_name'),
                  'address', host(inet_client_addr()))::text END,
        {about});
    -- UUIDv7 (RFC 9562 6.2): one for the statement, and a counter, beginning anywhere, for its rows.
    id text := {event_id};
    stem text := left(id, 24);
    start bigint := ('x0' || right(id, 11))::bit(48)::bigint;
    told bigint := 0;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT count(*) INTO audit_.told FROM new_rows;
        IF told BETWEEN 1 AND {limit} THEN
            INSERT INTO {outbox} (event)
            SELECT concat(audit_.head, ', "action": "create", "event_id": "', audit_.stem,
                          lpad(to_hex(audit_.start + n.place), 12, '0'), '", "key": [', {new_key},
                          '], "changes": {{', substr({created}, 3), '}}}}')
            FROM (SELECT {missing}) AS missing, LATERAL (SELECT row_number() OVER () AS place, {values} FROM new_rows) AS n;
            RETURN NULL;
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT count(*) INTO audit_.told FROM new_rows;
        IF told BETWEEN 1 AND {limit} THEN
            -- Both tables have the rows in the order in which they were written, whatever became of their keys.
            INSERT INTO {outbox} (event)
            SELECT concat(audit_.head, ', "action": "update", "event_id": "', audit_.stem,
                          lpad(to_hex(audit_.start + changed.place), 12, '0'), '", "key": [', changed.id,
                          '], "changes": {{', substr(changed.fields, 3), '}}}}')
            FROM (SELECT n.place, {new_key} AS id, {updated} AS fields
                  FROM (SELECT {missing}) AS missing,
                       LATERAL (SELECT row_number() OVER () AS place, {values} FROM old_rows) AS o,
                       LATERAL (SELECT row_number() OVER () AS place, {values} FROM new_rows) AS n
                  WHERE o.place = n.place OFFSET 0) AS changed
            WHERE changed.fields <> '';
            RETURN NULL;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT count(*) INTO audit_.told FROM old_rows;
        IF told BETWEEN 1 AND {limit} THEN
            INSERT INTO {outbox} (event)
            SELECT concat(audit_.head, ', "action": "delete", "event_id": "', audit_.stem,
                          lpad(to_hex(audit_.start + o.place), 12, '0'), '", "key": [', {old_key},
                          '], "changes": {{', substr({deleted}, 3), '}}}}')
            FROM (SELECT {missing}) AS missing, LATERAL (SELECT row_number() OVER () AS place, {values} FROM old_rows) AS o;
            RETURN NULL;
        END IF;
    ELSE
        INSERT INTO {outbox} (event)
        VALUES (concat(head, ', "action": "delete", "event_id": "', id, '", "bulk": {{"criteria": "TRUNCATE"}}}}'));
    END IF;
    IF told > 0 THEN
        INSERT INTO {outbox} (event)
        VALUES (concat(head, ', "action": "', CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE lower(TG_OP) END,
                       '", "event_id": "', id, '", "bulk": {{"rows": ', told, '}}}}'));
    END IF;
    RETURN NULL;
END {quote};
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;
