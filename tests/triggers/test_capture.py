"""What triggers tell: every way in which rows of PostgreSQL change."""

import re
from decimal import Decimal

import pytest

from audit_core import Redactor
from audit_core.triggers import install


def one(name, old, new):
    return {name: {"old": old, "new": new}}


def test_raw_sql_is_told_row_by_row(patients):
    patients.run("INSERT INTO patient VALUES (1, 'Ann'), (2, NULL)")
    patients.run("UPDATE patient SET name = 'Zoë' WHERE id = 1")
    patients.run("DELETE FROM patient WHERE id = 2")
    assert patients.told() == [
        ("create", "1", {**one("id", None, 1), **one("name", None, "Ann")}),
        ("create", "2", one("id", None, 2)),
        ("update", "1", one("name", "Ann", "Zoë")),
        ("delete", "2", one("id", 2, None)),
    ]
    first = patients.events()[0]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first.event_id)


def test_an_update_that_changes_nothing_leaves_no_event(patients):
    patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    patients.run("UPDATE patient SET name = name")
    patients.run("UPDATE patient SET name = 'never' WHERE id = 7")
    assert len(patients.told()) == 1


def test_what_is_rolled_back_leaves_no_event(patients):
    with patients.transaction():
        patients.run("INSERT INTO patient VALUES (1, 'kept')")
        patients.run("SAVEPOINT here; INSERT INTO patient VALUES (2, 'undone'); ROLLBACK TO here")
    with patients.transaction(force_rollback=True):
        patients.run("DELETE FROM patient")
    assert [(action, id) for action, id, _ in patients.told()] == [("create", "1")]


def test_keys_that_change_among_themselves_are_told_of_the_right_rows(patients):
    patients.run("ALTER TABLE patient DROP CONSTRAINT patient_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
    patients.run("INSERT INTO patient SELECT i, i::text FROM generate_series(1, 500) i")
    patients.run("UPDATE patient SET id = 501 - id")
    told = [(id, changes) for action, id, changes in patients.told() if action == "update"]
    assert sorted(told, key=lambda pair: int(pair[0])) == [
        (str(new), one("id", 501 - new, new)) for new in range(1, 501)
    ]


def test_copy_is_told(patients):
    with patients.connection.cursor().copy("COPY patient FROM STDIN") as copy:
        copy.write_row((1, "Ann"))
        copy.write_row((2, "Bob"))
    assert [(action, id) for action, id, _ in patients.told()] == [("create", "1"), ("create", "2")]


def test_above_the_limit_one_summary_is_told(db):
    db.make("CREATE TABLE patient (id int PRIMARY KEY, name text)", limit=3)
    db.run("INSERT INTO patient SELECT i FROM generate_series(1, 3) i")
    db.run("INSERT INTO patient SELECT i FROM generate_series(4, 7) i")
    db.run("UPDATE patient SET name = 'x'")
    db.run("DELETE FROM patient")
    found = [(event.action, event.resource_id, event.details.get("bulk")) for event in db.events()]
    assert found[:3] == [("create", str(i), None) for i in (1, 2, 3)]
    assert found[3:] == [
        ("create", None, {"rows": 4}),
        ("update", None, {"rows": 7}),
        ("delete", None, {"rows": 7}),
    ]


def test_truncate_is_one_event_of_each_table_that_it_empties(db):
    db.make("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a)")
    db.run("TRUNCATE a CASCADE")
    assert sorted((e.action, e.resource_type, e.details["bulk"]["criteria"]) for e in db.events()) == [
        ("delete", "a", "TRUNCATE"),
        ("delete", "b", "TRUNCATE"),
    ]


def test_cascades_of_the_database_are_told_of_each_row(db):
    db.make(
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);"
        "CREATE TABLE c (id int PRIMARY KEY, a_id int REFERENCES a ON DELETE SET NULL);"
        "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1), (2, 1), (3, 2); INSERT INTO c VALUES (1, 1)"
    )
    db.run("UPDATE a SET id = 7 WHERE id = 2; DELETE FROM a WHERE id = 1")
    assert sorted(db.actions()) == [
        ("a", "delete", "1"),
        ("a", "update", "7"),
        ("b", "delete", "1"),
        ("b", "delete", "2"),
        ("b", "update", "3"),
        ("c", "update", "1"),
    ]


def test_an_upsert_is_told_as_what_became_of_each_row(patients):
    patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    patients.run(
        "INSERT INTO patient VALUES (1, 'Eve'), (2, 'Bob') ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    )
    patients.run("INSERT INTO patient VALUES (1, 'never') ON CONFLICT DO NOTHING")
    assert sorted(patients.told()[1:]) == [
        ("create", "2", {**one("id", None, 2), **one("name", None, "Bob")}),
        ("update", "1", one("name", "Ann", "Eve")),
    ]


def test_a_merge_is_told_as_what_became_of_each_row(patients):
    patients.run("INSERT INTO patient VALUES (1, 'Ann'), (2, 'Bob')")
    patients.run(
        "MERGE INTO patient p USING (VALUES (1, 'Eve'), (2, NULL), (3, 'Cyd')) AS s (id, name) ON p.id = s.id "
        "WHEN MATCHED AND s.name IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET name = s.name "
        "WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name)"
    )
    assert sorted(patients.actions()[2:]) == [
        ("patient", "create", "3"),
        ("patient", "delete", "2"),
        ("patient", "update", "1"),
    ]


def test_several_changes_of_a_table_in_one_statement_are_each_told(patients):
    patients.run("INSERT INTO patient VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cyd')")
    patients.run(
        "WITH gone AS (DELETE FROM patient WHERE id = 3), new AS (INSERT INTO patient VALUES (4, 'Dan')) "
        "UPDATE patient SET name = upper(name) WHERE id < 3"
    )
    assert sorted(patients.actions()[3:]) == [
        ("patient", "create", "4"),
        ("patient", "delete", "3"),
        ("patient", "update", "1"),
        ("patient", "update", "2"),
    ]


def test_partitions_are_told_as_their_table_whichever_way_they_are_written(db):
    db.make(
        "CREATE TABLE visit (id int, year int, note text, PRIMARY KEY (year, id)) PARTITION BY LIST (year);"
        "CREATE TABLE visit_24 PARTITION OF visit FOR VALUES IN (2024);"
        "CREATE TABLE visit_25 (note text, id int NOT NULL, year int NOT NULL, PRIMARY KEY (year, id));"
        "ALTER TABLE visit ATTACH PARTITION visit_25 FOR VALUES IN (2025)"
    )
    db.run("INSERT INTO visit VALUES (1, 2024, 'a'), (2, 2025, 'b')")
    db.run("INSERT INTO visit_25 (id, year) VALUES (3, 2025)")
    db.run("UPDATE visit SET year = year + 1, note = id::text || note WHERE year = 2024")  # moves to the other part
    db.run("TRUNCATE visit_24")
    assert db.actions() == [
        ("visit", "create", "2024,1"),
        ("visit", "create", "2025,2"),
        ("visit", "create", "2025,3"),
        ("visit", "update", "2025,1"),
        ("visit", "delete", None),
    ]
    assert db.told()[3][2] == {**one("year", 2024, 2025), **one("note", "a", "1a")}


def test_many_rows_that_move_between_partitions_keep_their_old_values(db):
    db.make(
        "CREATE TABLE visit (id int PRIMARY KEY) PARTITION BY HASH (id);"
        + "".join(
            f"CREATE TABLE visit_{i} PARTITION OF visit FOR VALUES WITH (MODULUS 3, REMAINDER {i});" for i in range(3)
        )
        + "INSERT INTO visit SELECT i * 10 FROM generate_series(1, 200) i"
    )
    db.run("UPDATE visit SET id = id + 1")
    assert sorted(int(id) for _, id, _ in db.told()) == [i * 10 + 1 for i in range(1, 201)]
    assert all(changes == one("id", int(id) - 1, int(id)) for _, id, changes in db.told())


def test_rows_of_a_child_table_that_are_changed_through_its_parent_are_told(db):
    db.make(
        "CREATE TABLE person (id int PRIMARY KEY, name text);"
        "CREATE TABLE doctor (ward text, PRIMARY KEY (id)) INHERITS (person);"
        "INSERT INTO doctor VALUES (1, 'Ann', 'A')"
    )
    db.run("UPDATE person SET name = 'Eve'")
    db.run("UPDATE doctor SET ward = 'B'")
    assert db.actions() == [("person", "update", "1"), ("doctor", "update", "1")]


def test_a_table_without_a_primary_key_is_told_without_an_id(db):
    db.make("CREATE TABLE note (text text)")
    db.run("INSERT INTO note VALUES ('a'), ('a'); UPDATE note SET text = 'b'; DELETE FROM note")
    assert [(action, id) for action, id, _ in db.told()] == [
        (action, None) for action in ("create", "create", "update", "update", "delete", "delete")
    ]


def test_a_composite_key_is_one_text_that_no_other_key_has(db):
    db.make("CREATE TABLE item (a text, b uuid, c text, PRIMARY KEY (c, a))")
    db.run(r"INSERT INTO item VALUES ('x,y', NULL, 'z\')")
    assert db.told()[0][1] == r"z\\,x\,y"


def test_a_generated_column_has_the_computed_value(db):
    db.make("CREATE TABLE line (id int PRIMARY KEY, n int, double int GENERATED ALWAYS AS (n * 2) STORED)")
    db.run("INSERT INTO line VALUES (1, 2); UPDATE line SET n = 3")
    assert db.told()[1][2] == {**one("n", 2, 3), **one("double", 4, 6)}


VALUES = [
    ("int8", "9007199254740993", "9007199254740993"),
    ("numeric", "1.50", str(Decimal("1.50"))),
    ("numeric", "'NaN'", "NaN"),
    ("numeric(20,10)", "0.0000001", str(Decimal("0.0000001000"))),
    ("float8", "1", "1.0"),
    ("float8", "1e15", repr(1e15)),
    ("float8", "0.1", "0.1"),
    ("bool", "false", False),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("timestamptz", "'2024-02-29 12:00:00.5+02'", "2024-02-29T10:00:00.500000Z"),
    ("timestamp", "'2024-02-29 12:00:00'", "2024-02-29T12:00:00.000000"),
    ("timestamptz", "'infinity'", "infinity"),
    ("time", "'23:59'", "23:59:00"),
    ("time", "'23:59:00.5'", "23:59:00.500000"),
    ("interval", "'1 day 02:03:04.000005'", "P1DT02H03M04.000005S"),
    ("interval", "'-1 day -1 hour'", "-P1DT01H00M00S"),
    ("uuid", "'C0FFEE00-0000-4000-8000-000000000000'", "c0ffee00-0000-4000-8000-000000000000"),
    ("bytea", r"'\xff00'", "base64:/wA="),
    ("bytea", "'text'", "text"),
    ("jsonb", """'{"a": [1, 1.5, null], "b": {"c": true}}'""", {"a": [1, "1.5", None], "b": {"c": True}}),
    ("json", """'"\\ud800 \\u0000"'""", "\ufffd \ufffd"),
    ("jsonb", "'null'", None),
    ("int[]", "'{{1,2},{3,NULL}}'", [[1, 2], [3, None]]),
    ("text[]", """'{"a,b","c\\"d","NULL",""}'""", ["a,b", 'c"d', "NULL", ""]),
    ("numeric[]", "'{1.50}'", ["1.50"]),
    ("timestamptz[]", "'{2024-02-29 12:00+00}'", ["2024-02-29T12:00:00.000000Z"]),
    ("mood", "'ok'", "ok"),
    ("mood[]", "'{ok,NULL}'", ["ok", None]),
    ("inet", "'10.0.0.1'", "10.0.0.1"),
    ("inet", "'::ffff:10.0.0.1'", "10.0.0.1"),
    ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
    ("int4range", "'[1,10)'", "[1,10)"),
    ("pair", "ROW(NULL, NULL)", "(,)"),
    ("positive", "7", 7),
    ("point", "'(1,2)'", "(1,2)"),
]


def test_values_are_written_as_the_orms_write_them_whatever_the_session_prefers(db):
    columns = ", ".join(f"c{place} {kind}" for place, (kind, _, _) in enumerate(VALUES))
    db.make(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b int);"
        f"CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TABLE sample (id int PRIMARY KEY, {columns})"
    )
    db.run(
        "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET timezone = 'Asia/Kolkata'; "
        "SET extra_float_digits = -15; SET bytea_output = 'escape'"
    )
    db.run(f"INSERT INTO sample VALUES (1, {', '.join(value for _, value, _ in VALUES)})")
    ((_, _, changes),) = db.told()
    found = [(kind, changes[f"c{place}"]["new"]) for place, (kind, _, _) in enumerate(VALUES)]
    assert found == [(kind, wanted) for kind, _, wanted in VALUES]


def test_sensitive_columns_never_leave_the_table(db):
    db.make(
        "CREATE TABLE patient (id int PRIMARY KEY, password text, photo bytea, phone text, "
        "password_changed_at timestamptz)",
        columns={"exclude": ["patient.photo"], "mask": ["patient.phone"]},
    )
    with db.transaction():
        db.run("INSERT INTO patient VALUES (1, 'hunter2', 'picture', '+43 660 1234567', '2024-02-29 00:00+00')")
        db.run("UPDATE patient SET password = 'hunter3', photo = 'new picture'")
        outbox = str(db.run("SELECT event FROM audit.audit_outbox").fetchall())
        # Nothing that the digits of a random event id could be; the second is the picture as hex.
        assert not re.search("hunter|picture|70696374757265|43 660", outbox)
    first, second = (changes for _, _, changes in db.told())
    assert first["password"] == {"old": None, "new": "[redacted]"}
    assert first["phone"] == {"old": None, "new": "••••4567"}
    assert first["password_changed_at"]["new"].startswith("2024")
    assert second == one("password", "[redacted]", "[redacted]")


def test_the_redactors_rules_are_applied_when_the_triggers_are_made(db):
    redactor = Redactor(rules={"patient.nickname": "replace", "pin": "keep"})
    db.make("CREATE TABLE patient (id int PRIMARY KEY, nickname text, pin text)", redactor=redactor)
    db.run("INSERT INTO patient VALUES (1, 'Annie', '12')")
    ((_, _, changes),) = db.told()
    assert (changes["nickname"]["new"], changes["pin"]["new"]) == ("[redacted]", "12")


def test_a_key_that_is_a_secret_never_leaves_the_table(db):
    db.make("CREATE TABLE visit (token text PRIMARY KEY); CREATE TABLE api_key (id text PRIMARY KEY)")
    db.run("INSERT INTO visit VALUES ('s3cret'); INSERT INTO api_key VALUES ('s3cret')")
    assert [(event.resource_type, event.resource_id) for event in db.events()] == [
        ("visit", "[redacted]"),
        ("api_key", "[redacted]"),
    ]


def test_secrets_inside_of_json_are_redacted_before_anything_is_sealed(db):
    db.make("CREATE TABLE setting (id int PRIMARY KEY, data jsonb)")
    db.run("""INSERT INTO setting VALUES (1, '{"smtp": {"password": "hunter2", "port": 25}}')""")
    assert db.told()[0][2]["data"]["new"] == {"smtp": {"password": "[redacted]", "port": 25}}


def test_association_tables_are_not_told_unless_they_are_named(db):
    script = (
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);"
        "CREATE TABLE a_b (a_id int REFERENCES a, b_id int REFERENCES b, PRIMARY KEY (a_id, b_id));"
    )
    db.make(script)
    db.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); INSERT INTO a_b VALUES (1, 2)")
    assert db.actions() == [("a", "create", "1"), ("b", "create", "2")]
    install(db.connection, ["a_b"])
    db.run("DELETE FROM a_b")
    assert db.actions()[2:] == [("a_b", "delete", "1,2")]


def test_a_resource_has_the_name_that_it_has_elsewhere(db):
    db.make("CREATE TABLE clinic_invoiceline (id int PRIMARY KEY)", names={"clinic_invoiceline": "invoice_line"})
    db.run("INSERT INTO clinic_invoiceline VALUES (1)")
    assert db.actions() == [("invoice_line", "create", "1")]


@pytest.mark.parametrize("columns", [0, 300, 1590])
def test_a_table_of_any_width_is_told(db, columns):
    several = "".join(f", c{i} int" for i in range(columns))
    db.make(f"CREATE TABLE wide (id int PRIMARY KEY{several})")
    db.run("INSERT INTO wide VALUES (1); UPDATE wide SET id = 2; DELETE FROM wide")
    assert db.actions() == [("wide", "create", "1"), ("wide", "update", "2"), ("wide", "delete", "2")]
