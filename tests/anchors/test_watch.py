"""A restored backup under an application that anchors: nothing is sealed on top of it until somebody has said so."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from audit_core import AuditTrail
from audit_core.anchors import watch
from audit_core.chain.seen import Seen
from audit_core.cli import main
from audit_core.errors import IntegrityError
from audit_core.integrity.verify import Result
from audit_core.process.threads import wait_until
from tests.anchors.test_anchoring import SOON, Notes
from tests.attacks.attacker import AT, put_back, steal
from tests.postgres.server import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path, state):
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/clinic.db"


def open_trail(url, anchors, **more):
    return AuditTrail(url, anchors=anchors, anchor_every=0.05, **more)


def restore_after(url, folder):
    """A day of the application, of which the backup has not the last three events; what the anchor keeps of it."""
    with open_trail(url, [folder]) as trail:
        trail.record("chart.read")
        trail.flush()
        backup = steal(trail.store)
        for _ in range(3):
            trail.record("chart.read")
    put_back(trail.store, backup)
    trail.store.close()
    return len(backup.rows)


def actions(trail):
    return [row[AT["action"]] for row in trail.store.rows()]


def test_a_restored_backup_is_not_sealed_on_until_it_is_acknowledged_and_then_anchored_and_sound(
    url, tmp_path, caplog, capsys
):
    folder = f"file://{tmp_path}/other"
    size = restore_after(url, folder)
    with open_trail(url, [folder]) as trail:
        for _ in range(5):
            trail.record("chart.read")
        assert wait_until(lambda: "acknowledge-restore" in (trail.status()["trouble"] or ""), SOON)
        assert trail.store.extent().events == size
        assert trail.status()["waiting"] == 6, "with the start"
        assert "does not extend: a backup was put back" in trail.status()["anchors"][0]["trouble"]
        assert trail.verify().result is Result.FAILED
        words = ["acknowledge-restore", "--url", url, "--anchor", folder, "--reason", "disk failure"]
        assert main(words) == 0
        assert "from sequence 3 on are lost" in capsys.readouterr().out
        assert wait_until(lambda: trail.store.extent().events > size + 6, SOON), "the same process goes on"
    with open_trail(url, [folder], lifecycle=False) as trail:
        found = trail.verify()
        assert (found.result, [one.kind for one in found.warnings]) == (Result.OK, ["restored"])
        assert actions(trail)[3:6] == ["trail.restored", "trail.started", "chart.read"]
        assert found.anchored > size
    said = {record.getMessage() for record in caplog.records if "acknowledge-restore" in record.getMessage()}
    assert len(said) == 2, "by the sealer and by the anchor's thread, once"


def test_without_a_restored_backup_nobody_is_kept_waiting(url, tmp_path):
    folder = f"file://{tmp_path}/other"
    for number in range(3):
        with open_trail(url, [folder]) as trail:
            trail.record("chart.read")
            trail.flush()
            assert trail.store.extent().events >= 3 * number + 2
    assert trail.verify().result is Result.OK


def test_an_anchor_that_does_not_answer_holds_up_sealing_for_a_moment_only(url, monkeypatch):
    monkeypatch.setattr(watch, "HOLD_SECONDS", 0.3)
    anchor = Notes()
    anchor.kept = lambda chain: anchor.gate.wait() and iter(())
    anchor.gate.clear()
    with open_trail(url, [anchor]) as trail:
        trail.record("chart.read")
        assert len(list(trail.outboxes[0].waiting())) == 2, "in the outbox, and not in the spill file"
        trail.flush()
        assert trail.store.extent().events == 3
        anchor.gate.set()


def test_what_an_anchor_was_given_by_somebody_without_the_key_stops_nobody(tmp_path, state):
    anchor = Notes()
    thief = AuditTrail(f"sqlite:///{tmp_path}/thief.db", origin="example.com/clinic", signer=key_of(b"t"))
    for _ in range(9):
        thief.record("chart.read")
    thief.flush()
    url, size = f"sqlite:///{tmp_path}/clinic.db", 0
    for note in ([], [thief.chain.checkpoint_note()]):
        anchor.notes += note
        with open_trail(url, [anchor], origin="example.com/clinic") as trail:
            trail.record("chart.read")
            trail.flush()
            assert trail.store.extent().events > size
            size = trail.store.extent().events
            assert trail.chain.objection() is None


def key_of(letter):
    from audit_core.keys import LocalSigner

    return LocalSigner(letter * 32)


def test_an_anchor_that_was_down_at_the_start_stops_the_sealer_when_it_answers(tmp_path, state):
    url, folder = f"sqlite:///{tmp_path}/clinic.db", tmp_path / "other"
    size = restore_after(url, f"file://{folder}")
    shutil.move(folder, tmp_path / "away")
    folder.write_text("no folder")  # the mount is not there
    with open_trail(url, [f"file://{folder}"]) as trail:
        trail.record("chart.read")
        trail.flush()
        assert trail.store.extent().events == size + 2, "nobody knew"
        folder.unlink()
        shutil.move(tmp_path / "away", folder)
        assert wait_until(lambda: trail.status()["anchors"][0]["trouble"] not in {None, ""}, SOON)
        assert wait_until(lambda: "backup" in trail.status()["anchors"][0]["trouble"], SOON)
        trail.record("chart.read")
        assert trail.status()["waiting"] == 1
    words = ["acknowledge-restore", "--url", url, "--anchor", f"file://{folder}", "--reason", "disk failure"]
    assert main(words) == 0
    with open_trail(url, [f"file://{folder}"], lifecycle=False) as trail:
        found = trail.verify()
        assert (found.findings, [one.kind for one in found.warnings]) == ((), ["restored"])


def test_a_backup_whose_key_was_replaced_first_is_acknowledged_by_the_command(tmp_path, state):
    url, folder = f"sqlite:///{tmp_path}/clinic.db", f"file://{tmp_path}/other"
    restore_after(url, folder)
    assert main(["key", "rotate", "--url", url]) == 0
    assert main(["verify", "--url", url, "--anchor", folder]) == 1
    assert main(["acknowledge-restore", "--url", url, "--anchor", folder, "--reason", "broken into"]) == 0
    assert main(["verify", "--url", url, "--anchor", folder]) == 3, "nothing that is anchored is in it yet"
    assert main(["anchor", "--url", url, "--anchor", folder]) == 0
    assert main(["verify", "--url", url, "--anchor", folder]) == 0


def test_a_command_that_found_the_end_cut_off_seals_nothing_on_top_of_that(tmp_path, state, capsys):
    url, folder = f"sqlite:///{tmp_path}/clinic.db", f"file://{tmp_path}/other"
    size = restore_after(url, folder)
    assert main(["verify", "--url", url, "--anchor", folder]) == 1
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        assert connection.execute("SELECT count(*) FROM audit_events").fetchone() == (size,)
        assert connection.execute("SELECT count(*) FROM audit_outbox").fetchone() == (1,)


def test_what_the_verifier_remembers_is_enough_to_acknowledge_a_backup(tmp_path, state, capsys):
    path, memory = tmp_path / "clinic.db", tmp_path / "verified.json"
    url = f"sqlite:///{path}"
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("chart.read")
    backup = path.read_bytes()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("chart.read")
    assert main(["verify", "--url", url, "--state", str(memory)]) == 3
    Seen.parse(memory.read_text())
    path.write_bytes(backup)
    Path(f"{path}-wal").unlink(missing_ok=True)
    assert main(["verify", "--url", url, "--state", str(memory)]) == 1
    capsys.readouterr()
    assert main(["acknowledge-restore", "--url", url, "--reason", "none"]) == 2
    assert "there is nothing to acknowledge" in capsys.readouterr().err
    assert main(["acknowledge-restore", "--url", url, "--state", str(memory), "--reason", "disk failure"]) == 0
    capsys.readouterr()
    assert main(["verify", "--url", url, "--state", str(memory)]) == 3
    out = capsys.readouterr().out
    assert "Warning: A backup was put back" in out
    assert "disk failure" in out
    assert main(["verify", "--url", url, "--state", str(memory)]) == 0


def test_a_sealer_from_a_command_refuses_a_restored_backup_too(tmp_path, state, capsys):
    url, folder = f"sqlite:///{tmp_path}/clinic.db", f"file://{tmp_path}/other"
    size = restore_after(url, folder)
    with AuditTrail(url, lifecycle=False) as trail:
        trail.store.close()
        with trail.store.transaction() as connection:
            trail.outboxes[0].put([trail.event("chart.read")], connection)
    assert main(["seal", "--url", url, "--anchor", folder]) == 2
    assert "acknowledge-restore" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        assert connection.execute("SELECT count(*) FROM audit_events").fetchone() == (size,)


def test_the_sentence_of_a_refusal_is_an_integrity_error_and_names_the_anchor(tmp_path, state):
    url, folder = f"sqlite:///{tmp_path}/clinic.db", f"file://{tmp_path}/other"
    restore_after(url, folder)
    with open_trail(url, [folder]) as trail:
        trail.record("chart.read")
        trail.anchoring.watch.settle()
        with (
            pytest.raises(IntegrityError, match=r"The folder .*/other has a checkpoint of \d+ events"),
            trail.store.transaction() as connection,
        ):
            trail.chain.append([trail.event("chart.read")], connection)
