"""`audit triggers`: what is installed, and where it is not what it was."""

from unittest.mock import ANY

from audit_core.cli import main


def test_drift_is_found_and_followed(patients, capsys):
    def run(*arguments):
        return main(["--url", patients.url, "triggers", *arguments]), "".join(capsys.readouterr())

    assert run("check") == (0, ANY)
    patients.run("ALTER TABLE patient ADD phone text; ALTER TABLE patient DROP name; CREATE TABLE fresh (id int)")
    patients.run("INSERT INTO patient VALUES (1)")  # a dropped column breaks nothing
    patients.run("ALTER TABLE patient DISABLE TRIGGER audit_update; DROP TRIGGER audit_delete ON patient")
    code, said = run("check")
    assert code == 1
    for part in ("new column phone", "no column name", "audit_update is disabled", "lost its trigger", "fresh has no"):
        assert part in said
    assert run("install", "--all") == (0, ANY)
    assert run("check") == (0, ANY)
    assert run("drop", "--all")[0] == 0
    assert "No table has triggers." in run("check")[1]


def test_a_table_that_never_had_triggers_is_a_note_and_one_that_lost_them_a_finding(patients, capsys):
    def check(*arguments):
        return main(["--url", patients.url, "triggers", "check", *arguments]), "".join(capsys.readouterr())

    patients.run("CREATE TABLE fresh (id int)")
    code, said = check()
    assert code == 0
    assert "public.fresh has no triggers: its changes are told by the ORM's hooks alone." in said
    assert "The triggers of 1 table are as they were installed." in said
    for name in ("create", "update", "delete", "truncate"):
        patients.run(f"DROP TRIGGER audit_{name} ON patient")
    code, said = check()
    assert code == 1
    assert "public.patient has lost its triggers" in said
    assert check("--tables", "fresh")[0] == 0
    assert main(["--url", patients.url, "triggers", "drop", "--tables", "patient"]) == 0
    assert check()[0] == 0


def test_association_tables_that_were_named_are_looked_at_too(db, capsys):
    db.make("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE a_a (x int REFERENCES a, y int REFERENCES a)", "a_a")
    assert main(["--url", db.url, "triggers", "check"]) == 0
    db.run("ALTER TABLE a_a DISABLE TRIGGER audit_create")
    assert main(["--url", db.url, "triggers", "check"]) == 1
    assert "public.a_a's trigger audit_create is disabled" in "".join(capsys.readouterr())


def test_that_triggers_were_off_is_recorded_when_they_are_made_again(patients):
    def recorded():
        details = [event.details for event in patients.events() if event.action == "trail.triggers"]
        return [(one["change"], one["tables"], " ".join(one["found"])) for one in details]

    assert main(["--url", patients.url, "triggers", "install", "--all"]) == 0
    patients.run("ALTER TABLE patient DISABLE TRIGGER audit_update; DROP TRIGGER audit_delete ON patient")
    assert main(["--url", patients.url, "triggers", "install", "--all", "--sql"]) == 0
    assert main(["--url", patients.url, "triggers", "install", "--all"]) == 0
    assert main(["--url", patients.url, "triggers", "drop", "--tables", "patient"]) == 0
    first, again, dropped = recorded()
    assert first == ("installed", ["public.patient"], "")
    assert again[:2] == ("installed", ["public.patient"])
    assert "audit_update is disabled" in again[2]
    assert "lost its trigger audit_delete" in again[2]
    assert dropped == ("dropped", ["public.patient"], "")
    assert {event.actor_type for event in patients.events() if event.action == "trail.triggers"} == {"admin"}
