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
    assert run("check")[0] == 1
