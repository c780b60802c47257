"""Whoever may write rows, and whatever he writes: the statement works, its event is sealed, and the trail verifies."""

import json

import psycopg
import pytest

from audit_core.cli import main
from audit_core.triggers import Triggers, install
from tests.postgres.server import as_role

DEEP = "[" * 3000 + "]" * 3000
VALUES = [
    "x" * 70_000,
    "é" * 2_000_000,
    "[" * 100_000,
    '", "action": "delete", "event_id": "forged',
    "\\u0000 \\ud800",
    "\x01\x1f\x7f\u2028\U0010ffff",
    "$audit$; DROP TABLE patient; --",
]
CONTEXTS = [
    "x",
    "{",
    "[]",
    "null",
    '"x"',
    "{}",
    "[" * 16_000,
    '{"a": ' * 5_000,
    "x" * 1_000_000,
    '{"actor_type": "emperor"}',
    '{"actor_type": ["user"]}',
    '{"actor_type": "user", "actor_id": {"a": []}}',
    '{"actor_type": "user", "actor_id": "\\u0000\\ud800"}',
    '{"actor_type": "user", "actor_id": 1e999, "ip_address": "nowhere", "tenant_id": NaN}',
    '{"actor_type": "user", "actor_id": "' + "9" * 15_000 + '"}',
    '{"actor_type": "user", "actor_id": ' + "9" * 15_000 + "}",
    '", "action": "delete", "x": "',
    "'; DROP TABLE patient; --",
]
NAMES = [
    "A\"b'c",
    "Größe",
    "n" * 63,
    "é" * 31,
    "a.b",
    "x%sy{z}",
    "$audit$",
    "\\",
    "audit_outbox",
    "told",
    "id",
    "new_rows",
]


@pytest.fixture
def application(patients):
    """Somebody who may write patients, and nothing of the trail."""
    role = f"app_{patients.connection.info.dbname}"
    patients.run(f"CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON patient TO {role}")
    with psycopg.connect(as_role(patients.url, role), autocommit=True) as connection:
        yield connection


def test_who_may_do_nothing_in_the_trail_is_told_all_the_same(patients, application):
    application.execute("INSERT INTO patient VALUES (1, 'Ann')")
    application.execute("UPDATE patient SET name = 'Eve'")
    application.execute("TRUNCATE patient")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("SELECT * FROM audit.audit_outbox")
    assert [(e.action, e.actor_id, str(e.actor_type)) for e in patients.events()] == [
        (action, application.info.user, "service") for action in ("create", "update", "delete")
    ]


def test_who_may_write_rows_cannot_touch_the_triggers(patients, application):
    (function,) = patients.run(
        "SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE tgname = 'audit_create'"
    ).fetchone()
    application.execute("CREATE TEMP TABLE mine (id int)")
    for attack in (
        "ALTER TABLE patient DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_create ON patient",
        "SET session_replication_role = replica",
        f"SELECT {function}",
        "SELECT audit.audit_json('x')",
        f"CREATE TRIGGER forged AFTER INSERT ON pg_temp.mine FOR EACH STATEMENT EXECUTE FUNCTION {function}",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction)):
            application.execute(attack)
    application.execute("INSERT INTO patient VALUES (1, 'Ann')")
    assert patients.actions() == [("patient", "create", "1")]


def test_nothing_that_somebody_makes_stands_in_for_what_the_triggers_use(patients):
    patients.run(
        """
        CREATE SCHEMA evil;
        CREATE TABLE evil.audit_outbox (event text);
        CREATE FUNCTION evil.concat(VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
        CREATE FUNCTION evil.to_json(text) RETURNS json LANGUAGE sql AS $$ SELECT '"evil"'::json $$;
        CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS $$ SELECT 1 / 0 $$;
        CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
        CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
        CREATE FUNCTION evil.wrong(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
        CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.wrong);
        CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
        CREATE TEMP TABLE new_rows (id int, name text);
        CREATE TEMP TABLE old_rows (id int, name text);
        CREATE TEMP TABLE audit_outbox (event text);
        CREATE DOMAIN pg_temp.text AS pg_catalog.int4;
        CREATE DOMAIN pg_temp.bigint AS pg_catalog.int2 CHECK (VALUE < 0);
        SET search_path = pg_temp, evil, public, pg_catalog
        """
    )
    patients.run("INSERT INTO public.patient VALUES (1, 'Ann')")
    patients.run("UPDATE public.patient SET name = 'Eve'")
    patients.run("DELETE FROM public.patient")
    patients.run("RESET search_path")
    assert [(action, id, changes["name"]) for action, id, changes in patients.told()] == [
        ("create", "1", {"old": None, "new": "Ann"}),
        ("update", "1", {"old": "Ann", "new": "Eve"}),
        ("delete", "1", {"old": "Eve", "new": None}),
    ]
    assert patients.run("SELECT count(*) FROM evil.audit_outbox").fetchone() == (0,)


def test_casts_and_operators_of_a_type_of_somebodys_own_are_not_run(db):
    db.make(
        """
        CREATE TYPE pair AS (a int, b int);
        CREATE FUNCTION wrong(pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as the owner'; END $$;
        CREATE CAST (pair AS text) WITH FUNCTION wrong(pair) AS IMPLICIT;
        CREATE FUNCTION wrong(pair, pair) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'as the owner'; END $$;
        CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = wrong);
        CREATE TABLE sample (id int PRIMARY KEY, value pair)
        """
    )
    db.run("INSERT INTO sample VALUES (1, ROW(1, 2)); UPDATE sample SET value = ROW(3, 4); DELETE FROM sample")
    assert [changes["value"] for _, _, changes in db.told()] == [
        {"old": None, "new": "(1,2)"},
        {"old": "(1,2)", "new": "(3,4)"},
        {"old": "(3,4)", "new": None},
    ]


@pytest.mark.parametrize("context", CONTEXTS, ids=range(len(CONTEXTS)))
def test_a_context_that_is_forged_breaks_nothing(patients, context):
    with patients.transaction():
        patients.run("SELECT set_config('audit.context', %s, true)", (context,))
        patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    (event,) = patients.events()
    assert (event.resource_type, event.action, event.resource_id) == ("patient", "create", "1")
    assert event.details["changes"]["name"] == {"old": None, "new": "Ann"}


def test_a_context_cannot_say_more_than_who_acts(patients):
    forged = {"actor_type": "user", "actor_id": "eve", "action": "delete", "resource_id": "7", "details": {"x": 1}}
    with patients.transaction():
        patients.run("SELECT set_config('audit.context', %s, true)", (json.dumps(forged),))
        patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    (event,) = patients.events()
    assert (event.actor_id, event.action, event.resource_id) == ("eve", "create", "1")
    assert list(event.details) == ["changes"]


@pytest.mark.parametrize("within", [{"changes": {}, "bulk": {}, "command": "x"}, "text", ["command"], {"command": "x"}])
def test_a_context_cannot_say_what_changed_by_the_way(patients, within):
    with patients.transaction():
        context = json.dumps({"actor_type": "user", "actor_id": "eve", "within": within})
        patients.run("SELECT set_config('audit.context', %s, true)", (context,))
        patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    (event,) = patients.events()
    assert event.details.keys() <= {"changes", "command"}
    assert event.details["changes"]["name"] == {"old": None, "new": "Ann"}


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_that_is_huge_or_looks_like_ours_breaks_nothing(patients, value):
    patients.run("INSERT INTO patient VALUES (1, %s)", (value,))
    patients.run("UPDATE patient SET name = name || '!'")
    patients.run("DELETE FROM patient")
    assert patients.actions() == [("patient", action, "1") for action in ("create", "update", "delete")]


@pytest.mark.parametrize("kind", ["json", "jsonb"])
@pytest.mark.parametrize(
    "value",
    [
        DEEP,
        '{"a": ' * 2000 + "1" + "}" * 2000,
        "9" * 5000,
        "1e400",
        "-0",
        '{"a": 1, "a": 2}',
        '"' + "x" * 3_000_000 + '"',
    ],
    ids=range(7),
)
def test_json_that_is_deep_or_huge_breaks_nothing(db, kind, value):
    db.make(f"CREATE TABLE setting (id int PRIMARY KEY, data {kind}, list {kind}[])")
    db.run("INSERT INTO setting VALUES (1, %s, ARRAY[%s]::" + kind + "[])", (value, value))
    assert db.actions() == [("setting", "create", "1")]


def test_escapes_that_no_text_can_hold_are_replaced(db):
    db.make("CREATE TABLE setting (id int PRIMARY KEY, data json)")
    db.run("INSERT INTO setting VALUES (1, %s)", (r'{"\u0000": "\u0000", "\ud800": "a\udfff"}',))
    ((_, _, changes),) = db.told()
    assert "\x00" not in str(changes)
    str(changes).encode()


def test_a_number_that_no_record_can_hold_breaks_nothing(db):
    db.make("CREATE TABLE sample (id numeric PRIMARY KEY, value numeric, when_ timestamptz, days interval)")
    db.run("INSERT INTO sample VALUES (1e100000, -1e-16000, '294276-12-31', '170000000 years')")
    db.run("INSERT INTO sample VALUES ('NaN', 'Infinity', '4713-01-01 BC', '-1 mon 3 days ago')")
    assert [(type, action) for type, action, _ in db.actions()] == [("sample", "create")] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_table_and_its_columns_may_have_any_name(db, name):
    quoted = '"' + name.replace('"', '""') + '"'
    where = f"{quoted}.{quoted}"
    db.make(f"CREATE SCHEMA {quoted}; CREATE TABLE {where} ({quoted} int PRIMARY KEY)")
    db.run(f"INSERT INTO {where} VALUES (1)")
    db.run(f"UPDATE {where} SET {quoted} = 2")
    db.run(f"TRUNCATE {where}")
    assert db.actions() == [(name, "create", "1"), (name, "update", "2"), (name, "delete", None)]
    triggers = Triggers(db.connection)
    assert list(triggers.check(triggers.chosen(everything=True))) == []
    triggers.run(triggers.drop_sql())
    assert db.run("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^audit_(create|update|delete)'").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["text", "uuid", "bytea", "jsonb", "numeric", "int[]", "timestamptz"])
def test_a_column_whose_type_changes_after_the_installation_breaks_nothing(db, kind):
    db.make("CREATE TABLE sample (id int PRIMARY KEY, value bool)")
    db.run(f"ALTER TABLE sample ALTER value TYPE {kind} USING NULL")
    values = {"uuid": "c0ffee00-0000-4000-8000-000000000000", "int[]": "{1}", "timestamptz": "2024-02-29 00:00+00"}
    db.run(f"INSERT INTO sample VALUES (1, '{values.get(kind, 7)}')")
    assert db.actions() == [("sample", "create", "1")]
    triggers = Triggers(db.connection)
    (found,) = triggers.check(triggers.chosen(["sample"]))
    assert "not what was installed" in found


ATTACKS = {
    "a function that does nothing": (
        "CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        "SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'"
    ),
    "a function with another search_path": "ALTER FUNCTION {} SET search_path = evil, pg_catalog",
    "a function with the caller's rights": "ALTER FUNCTION {} SECURITY INVOKER",
    "a disabled trigger": "ALTER TABLE patient DISABLE TRIGGER audit_update",
    "a trigger for replicas only": "ALTER TABLE patient ENABLE REPLICA TRIGGER audit_update",
    "a trigger with a condition": (
        "CREATE OR REPLACE TRIGGER audit_update AFTER UPDATE ON patient REFERENCING OLD TABLE AS old_rows "
        "NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION {}"
    ),
    "a trigger of one column": (
        "DROP TRIGGER audit_update ON patient; CREATE TRIGGER audit_update AFTER UPDATE OF id ON patient "
        "FOR EACH STATEMENT EXECUTE FUNCTION {}"
    ),
    "a trigger for another event": (
        "CREATE OR REPLACE TRIGGER audit_update AFTER DELETE ON patient REFERENCING OLD TABLE AS old_rows "
        "FOR EACH STATEMENT EXECUTE FUNCTION {}"
    ),
    "a trigger with exchanged rows": (
        "CREATE OR REPLACE TRIGGER audit_update AFTER UPDATE ON patient REFERENCING OLD TABLE AS new_rows "
        "NEW TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {}"
    ),
    "a lost trigger": "DROP TRIGGER audit_truncate ON patient",
    "a function that hides values": (
        "CREATE OR REPLACE FUNCTION audit.audit_json(value text) RETURNS text LANGUAGE sql STABLE AS "
        "$$ SELECT '\"nothing\"'::text $$"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_check_finds_what_was_replaced_and_install_mends_it(patients, capsys, attack):
    (function,) = patients.run(
        "SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE tgname = 'audit_update'"
    ).fetchone()
    assert main(["--url", patients.url, "triggers", "check"]) == 0
    patients.run(ATTACKS[attack].format(function))
    assert main(["--url", patients.url, "triggers", "check"]) == 1
    assert main(["--url", patients.url, "triggers", "install", "--all"]) == 0
    assert main(["--url", patients.url, "triggers", "check"]) == 0
    patients.run("INSERT INTO patient VALUES (1, 'Ann'); UPDATE patient SET name = 'Eve'")
    assert patients.told()[-1] == ("update", "1", {"name": {"old": "Ann", "new": "Eve"}})


def test_what_sql_prints_is_what_install_runs(db, capsys):
    db.run('CREATE TABLE "Größe\'s" (id int PRIMARY KEY, "it\'s \\ {x} %s" text)')
    assert main(["--url", db.url, "triggers", "install", "--all", "--sql"]) == 0
    script = capsys.readouterr().out
    assert db.run("SELECT count(*) FROM pg_trigger WHERE tgname = 'audit_create'").fetchone() == (0,)
    db.run(script)
    assert main(["--url", db.url, "triggers", "check"]) == 0
    installed = (
        "SELECT p.prosrc, p.proacl::text, obj_description(p.oid) FROM pg_proc p WHERE proname ~ '^audit_(tell|json)' "
    )
    installed += "ORDER BY proname"
    printed = db.run(installed).fetchall()
    triggers = Triggers(db.connection)
    triggers.run(triggers.drop_sql())
    install(db.connection)
    assert db.run(installed).fetchall() == printed


def test_an_outbox_that_refuses_undoes_the_change(patients):
    patients.run("ALTER TABLE audit.audit_outbox ADD CONSTRAINT full_ CHECK (false) NOT VALID")
    with pytest.raises(psycopg.errors.CheckViolation):
        patients.run("INSERT INTO patient VALUES (1, 'Ann')")
    assert patients.run("SELECT count(*) FROM patient").fetchone() == (0,)
