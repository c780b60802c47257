"""Several chains under one roof: what one anchor of it vouches for, and every attack on a chain or on the roof."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.cli import main
from audit_core.errors import AuditError, ConfigurationError, StoreUnavailableError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.process.threads import wait_until
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter
from audit_core.trails import KEPT, AuditTrails, RoofAnchor
from tests.attacks.attacker import without_guards
from tests.postgres.server import new_database

OURS, ROOFS, THEIRS = LocalSigner(b"o" * 32), LocalSigner(b"r" * 32), LocalSigner(b"t" * 32)
NAMES = ("north", "south")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    for name in ("AUDIT_KEY", "AUDIT_HASH_KEY", "AUDIT_URL", "AUDIT_ANCHORS"):
        monkeypatch.delenv(name, raising=False)


class House:
    """Chains and a roof in files, whose owner can do with them what he likes."""

    def __init__(self, folder):
        self.folder = folder

    def url(self, name):
        return f"sqlite:///{self.folder}/{name}.db"

    def open(self, *names, urls=None, anchored=True, **options):
        chains = {name: self.url(name) for name in names or NAMES} | (urls or {})
        anchors = [f"file://{self.folder}/anchor"] if anchored else []
        common = {"roof_signer": ROOFS, "signer": OURS, "lifecycle": False}
        return AuditTrails(chains, roof=self.url("roof"), anchors=anchors, **{**common, **options})

    def grow(self, *names, anchor=True, count=3):
        with self.open(*names) as trails:
            for name in names or NAMES:
                for _ in range(count):
                    trails.of(name).record("chart.read", resource=f"patient:{name}")
            if anchor:
                assert set(trails.anchor_now().values()) == {None}

    def verify(self, *names, **options):
        with self.open(*names, create=False, **options) as trails:
            return trails.verify()

    def save(self, *names):
        for name in names:
            shutil.copy(self.folder / f"{name}.db", self.folder / f"{name}.old")

    def put_back(self, *names):
        for name in names:
            self.remove(name)
            shutil.copy(self.folder / f"{name}.old", self.folder / f"{name}.db")

    def remove(self, name):
        for path in self.folder.glob(f"{name}.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def sql(self, name, statement, *values):
        with closing(sqlite3.connect(self.folder / f"{name}.db")) as attacker, attacker, without_guards(attacker):
            attacker.execute(statement, values)


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    house.grow()
    return house


def results(found):
    return {name: getattr(one, "result", one) for name, one in found.chains.items()}


def kinds(found):
    return {finding.kind for finding in found.findings}


class TestOneAnchor:
    def test_serves_all_chains(self, house):
        found = house.verify()
        assert found.result is found.roof.result is Result.OK
        assert results(found) == {"north": Result.OK, "south": Result.OK}
        assert [(one.size, one.anchored) for one in found.chains.values()] == [(4, 4), (4, 4)]
        assert found.findings == ()

    def test_and_goes_on_to_when_they_grow(self, house):
        for _ in range(2):
            house.grow()
            house.grow("north", "south", anchor=False)
            assert house.verify().result is Result.OK

    def test_without_it_the_roof_vouches_for_nothing(self, house):
        found = house.verify(anchored=False)
        assert found.result is found.roof.result is Result.UNANCHORED
        assert results(found) == {"north": Result.UNANCHORED, "south": Result.UNANCHORED}

    def test_a_checkpoint_that_it_does_not_cover_yet_vouches_for_nothing(self, house):
        house.grow("north", "south", "west", anchor=False)
        with house.open("north", "south", "west") as trails:
            for trail in trails.chains.values():
                trail.anchor_now()
        found = house.verify("north", "south", "west")
        assert results(found) == {"north": Result.OK, "south": Result.OK, "west": Result.UNANCHORED}
        assert found.result is Result.UNANCHORED
        assert {one.anchored for one in found.chains.values()} == {4, 0}

    def test_what_it_does_not_cover_yet_accuses_all_the_same(self, house):
        house.save("north")
        with house.open() as trails:
            trails.of("north").record("chart.read")
            trails.of("north").anchor_now()
        house.put_back("north")
        assert results(house.verify())["north"] is Result.FAILED

    def test_a_key_that_was_replaced_changes_nothing(self, house):
        with house.open() as trails:
            trails.of("north").rotate_key(THEIRS)
        with house.open("north", signer=THEIRS) as trails:
            trails.anchor_now()
        with AuditTrails(
            {name: house.url(name) for name in NAMES}, roof=house.url("roof"), create=False, lifecycle=False,
            anchors=[f"file://{house.folder}/anchor"],
        ) as trails:  # fmt: skip
            assert trails.verify().result is Result.OK

    def test_the_keys_that_an_auditor_pins_are_those_of_roof_and_chains(self, house):
        with house.open(create=False) as trails:
            roof, north = trails.roof.chain.key, trails.of("north").chain.key
            stranger = VerifierKey(roof.name, THEIRS.public_key)
            assert trails.verify(roof, {"north": north}).result is Result.OK
            assert trails.verify(stranger).roof.result is Result.FAILED
            assert trails.verify(roof, {"north": VerifierKey(north.name, THEIRS.public_key)}).result is Result.FAILED


class TestAChain:
    def test_that_was_edited_is_found_and_the_others_are_not_accused(self, house):
        house.sql("north", "UPDATE audit_events SET action = 'chart.seen' WHERE sequence = 2")
        found = house.verify()
        assert found.result is Result.FAILED
        assert results(found) == {"north": Result.FAILED, "south": Result.OK}

    def test_that_was_rolled_back_is_found(self, house):
        house.save("north")
        house.grow()
        house.put_back("north")
        found = house.verify()
        assert results(found) == {"north": Result.FAILED, "south": Result.OK}
        assert {finding.kind for finding in found.chains["north"].findings} == {"truncated"}

    def test_that_was_rolled_back_is_not_sealed_on(self, house):
        house.save("north")
        house.grow()
        house.put_back("north")
        with house.open(lifecycle=True, anchor_every=0.05) as trails:
            for name in NAMES:
                trails.of(name).record("chart.read")
            trails.of("south").flush()
            assert wait_until(lambda: trails.of("north").status()["waiting"] >= 1, 20)
            with pytest.raises(StoreUnavailableError):
                trails.of("north").flush(0.5)
            assert trails.of("north").status()["size"] == 4

    def test_that_was_rewritten_with_its_own_key_is_found(self, house):
        with house.open() as trails:
            origin = trails.of("north").chain.origin
        house.remove("north")
        with AuditTrail(house.url("north"), origin=origin, signer=OURS, lifecycle=False) as forger:
            for _ in range(9):
                forger.record("chart.read")
        found = house.verify()
        assert results(found) == {"north": Result.FAILED, "south": Result.OK}

    @pytest.mark.parametrize("how", ["not named", "no file", "no rows", "begun anew"])
    def test_that_was_removed_is_missed(self, house, how):
        with house.open() as trails:
            origin = trails.of("north").chain.origin
        names = ("south",) if how == "not named" else NAMES
        if how == "no rows":
            house.sql("north", "DELETE FROM audit_events")
            house.sql("north", "DELETE FROM audit_checkpoints")
        elif how != "not named":
            house.remove("north")
        if how == "begun anew":
            house.grow("north", anchor=False)
        found = house.verify(*names)
        assert found.result is Result.FAILED
        assert [(one.kind, one.expected) for one in found.findings] == [("chain.missing", f"the chain {origin}")]
        assert results(found)["south"] is Result.OK

    def test_that_was_added_is_vouched_for_by_nobody(self, house):
        house.grow("west", anchor=False)
        found = house.verify(*NAMES, "west")
        assert found.result is Result.UNANCHORED
        assert results(found)["west"] is Result.UNANCHORED

    def test_that_stands_in_the_place_of_another_is_found(self, house):
        shutil.copy(house.folder / "south.db", house.folder / "north.db")
        found = house.verify()
        assert found.result is Result.FAILED
        assert kinds(found) == {"chain.twice", "chain.missing"}

    def test_that_is_away_just_now_is_not_called_missing(self, house):
        urls = {"north": "postgresql://127.0.0.1:1/nowhere?connect_timeout=1"}
        with house.open("south", urls=urls, create=False) as trails:
            found = trails.verify()
        assert isinstance(found.chains["north"], StoreUnavailableError)
        assert (found.result, found.findings, results(found)["south"]) == (None, (), Result.OK)

    def test_nor_does_one_that_is_away_hide_that_another_one_is_missing(self, house):
        urls = {"west": "postgresql://127.0.0.1:1/nowhere?connect_timeout=1"}
        house.grow("west", *NAMES)
        with house.open("south", urls=urls, create=False) as trails:
            assert trails.verify().result is Result.FAILED


class TestTheRoof:
    def test_that_was_rolled_back_with_a_chain_is_found_by_its_anchor(self, house):
        house.save("north", "roof")
        house.grow()
        house.put_back("north", "roof")
        found = house.verify()
        assert found.roof.result is found.result is Result.FAILED
        assert {finding.kind for finding in found.roof.findings} == {"truncated"}

    def test_that_was_rewritten_with_its_own_key_is_found(self, house):
        with house.open() as trails:
            origin = trails.roof.chain.origin
        house.remove("roof")
        with house.open() as trails:
            trails.roof.chain._wanted_origin = origin
            for trail in trails.chains.values():
                trail.anchor_now()
        found = house.verify()
        assert found.roof.result is found.result is Result.FAILED
        assert results(found) == {"north": Result.UNANCHORED, "south": Result.UNANCHORED}

    @pytest.mark.parametrize("change", [
        f"DELETE FROM audit_events WHERE action = '{KEPT}' AND sequence = 1",
        f"UPDATE audit_events SET resource_id = 'nobody' WHERE action = '{KEPT}' AND sequence = 1",
        f"UPDATE audit_events SET action = 'x' WHERE action = '{KEPT}' AND sequence = 1",
        f"UPDATE audit_events SET details = '{{}}' WHERE action = '{KEPT}' AND sequence = 1",
    ])  # fmt: skip
    def test_that_was_edited_to_hide_a_chain_vouches_for_nobody(self, house, change):
        house.sql("roof", change)
        found = house.verify("south")
        assert found.roof.result is found.result is Result.FAILED
        assert results(found) == {"south": Result.UNANCHORED}

    @pytest.mark.parametrize("note", ["nonsense", "", None, 7, "the other chain's"])
    def test_that_holds_nonsense_accuses_nobody(self, house, note):
        with house.open() as trails:
            if note == "the other chain's":
                note = trails.of("south").chain.checkpoint_note()
            event = replace(
                trails.roof.event(KEPT), resource_type="chain", resource_id=trails.of("north").chain.origin,
                details={"note": note},
            )  # fmt: skip
            trails.roof.submit_event(event).result()
            trails.anchor_now()
        found = house.verify()
        assert found.result is Result.OK
        assert {finding.kind for finding in found.chains["north"].warnings} == {"anchor.unreadable"}

    def test_that_holds_a_checkpoint_by_a_stranger_accuses_the_chain_as_any_anchor_does(self, house):
        with house.open() as trails:
            origin = trails.of("north").chain.origin
            tree = Checkpoint(origin, 2, b"x" * 32)
            RoofAnchor(trails.roof).keep(tree.note(tree.sign(THEIRS)), trails.of("north").chain)
        assert results(house.verify())["north"] is Result.FAILED

    def test_keeps_a_checkpoint_once_whoever_brings_it(self, house):
        for _ in range(3):
            with house.open() as trails:
                trails.anchor_now()
                assert sum(1 for _ in trails.roof.events(action=KEPT)) == 2

    def test_does_not_vouch_for_itself(self, house):
        with house.open() as trails, pytest.raises(ConfigurationError, match="not for itself"):
            RoofAnchor(trails.roof).keep("note", trails.roof.chain)

    def test_that_cannot_be_written_keeps_nothing_and_no_event_waits_for_it(self, house):
        with house.open() as trails:
            trails.of("north").record("chart.read")
            house.remove("roof")
            (house.folder / "roof.db").mkdir()
            (state,) = trails.of("north").anchor_now()
            assert state.trouble
            trails.of("north").record("chart.read")
            (house.folder / "roof.db").rmdir()


def test_a_checkpoint_is_in_the_roof_as_it_is_whatever_a_redactor_would_see_in_it(house):
    with house.open() as trails:
        (kept, *_) = trails.roof.events(action=KEPT, resource=("chain", trails.of("north").chain.origin))
        assert kept.details == {"note": trails.of("north").chain.checkpoint_note()}


@pytest.mark.parametrize("roof", ["sqlite", "postgres"])
def test_an_application_anchors_its_chains_by_itself(tmp_path, roof):
    place = f"sqlite:///{tmp_path}/roof.db" if roof == "sqlite" else new_database()
    chains = {name: f"sqlite:///{tmp_path}/{name}.db" for name in NAMES}
    anchors = [f"file://{tmp_path}/anchor"]
    with AuditTrails(chains, roof=place, anchors=anchors, anchor_every=0.05) as trails:
        for name in NAMES:
            trails.of(name).record("chart.read")
        assert wait_until(lambda: len({one.resource_id for one in trails.roof.events(action=KEPT)}) == 2, 20)
    with AuditTrails(chains, roof=place, anchors=anchors, create=False, lifecycle=False) as trails:
        trails.anchor_now()
        found = trails.verify()
        assert found.result is Result.OK
        assert all(one.anchored >= 3 for one in found.chains.values())


def test_a_report_has_the_events_of_all_chains_by_time_and_each_says_that_it_was_read(house):
    with house.open(create=False) as trails:
        report = AuditReporter(trails).access_report("patient")
        rows = list(report)
        assert [row.timestamp for row in rows] == sorted(row.timestamp for row in rows)
        assert [row.resource_id for row in rows].count("south") == len(rows) / 2 == 3
        assert (report.coverage.sealed, report.coverage.noted) == (8, True)
        for trail in trails.chains.values():
            assert sum(1 for _ in trail.events(action="trail.read")) == 1
        newest = trails.select(EventQuery(action="chart.read"))
        assert next(newest).resource_id == "south"


@pytest.mark.parametrize("chains", [{}, {"a": "memory:", "b": "memory:"}, {"a": "sqlite:///roof.db"}])
def test_chains_that_share_a_place_are_refused(chains):
    with pytest.raises(ConfigurationError, match="a URL of its own"):
        AuditTrails(chains, roof="sqlite:///roof.db")


def test_one_origin_for_all_chains_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="leave out origin"):
        AuditTrails({"a": f"sqlite:///{tmp_path}/a.db"}, roof=f"sqlite:///{tmp_path}/roof.db", origin="a.example")


def test_an_unknown_name_is_told_which_may_be_meant(house):
    with house.open() as trails, pytest.raises(ConfigurationError, match="Did you mean 'north'"):
        trails.of("nroth")


class TestTheCommand:
    @pytest.fixture
    def file(self, house):
        path = house.folder / "trails.toml"
        lines = [f'roof = "{house.url("roof")}"', f'anchors = ["file://{house.folder}/anchor"]', "[chains]"]
        path.write_text("\n".join([*lines, *(f'{name} = "{house.url(name)}"' for name in NAMES)]))
        return path

    @pytest.fixture
    def audit(self, file, capsys):
        def run(*words):
            capsys.readouterr()
            code = main(["--trails", str(file), *words])
            out, err = capsys.readouterr()
            assert "Traceback" not in err
            return code, out, err

        return run

    def test_verify_says_what_each_is_and_what_all_are(self, audit, house, file):
        code, out, _ = audit("verify")
        assert (code, out.count("OK: ")) == (0, 3)
        assert out.endswith("All together: OK.\n")
        told = json.loads(audit("verify", "--json")[1])
        assert (told["result"], told["roof"]["result"], sorted(told["chains"])) == ("ok", "ok", ["north", "south"])
        house.remove("south")
        code, out, _ = audit("verify")
        assert code == 1
        assert "south:\nCould not be verified: " in out
        assert "none of the chains is it" in out
        assert json.loads(audit("verify", "--json")[1])["findings"][0]["kind"] == "chain.missing"

    def test_verify_without_the_roofs_anchor_is_unanchored(self, audit, file):
        file.write_text("\n".join(line for line in file.read_text().splitlines() if "anchors" not in line))
        assert audit("verify")[0] == 3

    def test_status_anchor_and_reports_are_about_all(self, audit, house):
        code, out, _ = audit("status")
        assert (code, out.count("the roof sqlite:///")) == (0, 2)
        assert json.loads(audit("status", "--json")[1])["chains"]["north"]["size"] == 4
        assert audit("report", "access", "patient")[1].count("chart.read") == 6
        assert "chart.read" in audit("events")[1]

    def test_one_of_them_has_the_roof_as_its_anchor_so_that_a_backup_of_it_can_be_acknowledged(
        self, audit, house, monkeypatch
    ):
        monkeypatch.setenv("AUDIT_KEY", base64.b64encode(b"o" * 32).decode())
        house.save("north")
        house.grow()
        house.put_back("north")
        assert audit("--chain", "north", "verify")[0] == 1
        assert audit("--chain", "south", "verify")[0] == 0
        code, _, err = audit("--chain", "north", "acknowledge-restore", "--reason", "the disk broke")
        assert (code, err.startswith("1 checkpoint left behind")) == (0, True)
        found = house.verify()
        assert (found.result, found.chains["north"].anchored) == (Result.OK, 4), "what was lost vouches for nothing"

    @pytest.mark.parametrize("words", [
        ("verify", "--state", "x"), ("verify", "--key", "x"), ("verify", "--checkpoint", "x"), ("prove", "1"),
        ("--url", "sqlite:///x.db", "show", "1"), ("anchor", "--anchor", "log:"),
    ])  # fmt: skip
    def test_what_is_about_one_trail_is_refused(self, audit, words):
        code, _, err = audit(*words)
        assert (code, "--trails" in err) == (2, True)

    @pytest.mark.parametrize("option", [("--url", "sqlite:///other.db"), ("--archive", "file:///elsewhere")])
    def test_no_chain_is_judged_in_the_place_of_what_was_typed(self, audit, option):
        for words in ((*option, "--chain", "north", "verify"), ("--chain", "north", "verify", *option)):
            code, _, err = audit(*words)
            assert (code, f"leave out {option[0]}" in err) == (2, True)

    def test_a_chain_that_is_not_there_is_refused(self, audit):
        assert "Did you mean 'north'" in audit("--chain", "nroth", "verify")[2]
        assert main(["--chain", "north", "verify"]) == 2

    @pytest.mark.parametrize("text", [
        "", "no toml", 'roof = "sqlite:///r.db"', 'roof = 7\n[chains]\na = "x"', 'roof = "r"\n[chains]\na = 7',
        'rooff = "r"', 'roof = "memory"\n[chains]\na = "x:y"', 'roof = "r"\n[chains]\na = "x"\n[keys]\nb = "k"',
    ])  # fmt: skip
    def test_a_file_that_is_none_is_refused_in_a_sentence(self, audit, file, text):
        file.write_text(text)
        code, out, err = audit("verify")
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_whatever_is_raised_is_ours(tmp_path):
    with pytest.raises(AuditError):
        AuditTrails({"a": "sqlite:///a.db", "b": "nonsense"}, roof=f"sqlite:///{tmp_path}/roof.db", create=False)
