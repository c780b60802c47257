"""A chain that several processes hash is found to be what one process finds."""

import shutil
import sqlite3

import pytest

from audit_core import AuditTrail
from audit_core.chain import hashing as hashing_module
from audit_core.testing import make_event, seal


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    file = tmp_path_factory.mktemp("sealed") / "trail.db"
    with AuditTrail(f"sqlite:///{file}", lifecycle=False) as trail:
        for _ in range(5):
            seal(trail.chain, [make_event(n) for n in range(1_000)])
    return file


@pytest.fixture
def trail(tmp_path, sealed, monkeypatch):
    monkeypatch.setattr(hashing_module, "RANGE", 2_000)  # the bounds lie where the tests change something
    with AuditTrail(f"sqlite:///{shutil.copy(sealed, tmp_path)}", lifecycle=False) as trail:
        yield trail


def tamper(trail, *statements):
    connection = sqlite3.connect(trail.store.database.path)
    connection.executescript("DROP TRIGGER audit_events_no_update; DROP TRIGGER audit_events_no_delete")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 2000",
        "DELETE FROM audit_events WHERE sequence BETWEEN 1999 AND 2001",
        "UPDATE audit_events SET sequence = 9223372036854775806 WHERE sequence = 5000",
        *(
            pytest.param(statement, marks=pytest.mark.long)
            for statement in (
                "UPDATE audit_events SET actor_id = x'00' WHERE sequence = 1999",
                "DELETE FROM audit_events WHERE sequence BETWEEN 1500 AND 4500",
                "UPDATE audit_events SET previous_hash = event_hash WHERE sequence = 4000",
                "DELETE FROM audit_events",
            )
        ),
    ],
)
def test_several_processes_find_what_one_finds(trail, statement):
    tamper(trail, statement)
    found = trail.chain.verify().findings
    assert trail.verify(jobs=2).findings == found != ()


def test_several_processes_find_nothing_in_an_honest_chain(trail, monkeypatch):
    seen = []
    found = trail.verify(jobs=3, progress=lambda done, total: seen.append((done, total)))
    assert (found.findings, found.size) == ((), 5_001)
    assert seen[-1] == (5_001, 5_001)
    monkeypatch.setattr(hashing_module, "_hash_range", None)
    with pytest.raises(TypeError):
        trail.verify(jobs=2)  # it is other processes that hash


def test_a_memory_trail_is_hashed_where_it_is():
    with AuditTrail("memory:", lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        assert trail.verify(jobs=2).findings == ()
