"""Whatever a trail goes through, in whatever order: it verifies, what was erased is nowhere, each change is found."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from audit_core.errors import IntegrityError
from audit_core.integrity.verify import Result
from tests.life.changing import Owner
from tests.life.living import Life
from tests.life.reading import surfaces

VERIFIER = Path(__file__).parents[2] / "docs" / "verify_without_us.py"
LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
LIVES = [  # how many, of how many steps, and how many changes at the end of each
    pytest.param("sqlite", (2, 19, 20), id="some"),
    pytest.param("sqlite", (100, 57, 200), id="many", marks=LONG),
    pytest.param("postgres", (25, 38, 100), id="postgresql", marks=LONG),
]


@pytest.mark.parametrize(("kind", "extent"), LIVES)
def test_a_random_life_stays_provable_forgets_what_was_erased_and_hides_no_change(kind, extent, tmp_path, state):
    lives, steps, changes = extent
    for seed in range(lives):
        (folder := tmp_path / str(seed)).mkdir()
        life = Life(kind, folder, seed)
        try:
            for number in range(steps):
                life.step()
                check_sound(life)
                if number % 4 == 0:
                    check_read(life)
            check_read(life)
            check_by_others(life)
            check_forgotten(life, folder / "read")
            check_changes(life, changes)
        except BaseException as error:
            error.add_note(f"the life of seed {seed}: {', '.join(life.said)}")
            raise


def check_sound(life):
    """All is verified: nothing is found, and nothing but what was purged is compared by its hash alone."""
    found = life.verify()
    assert (found.result, found.findings) == (Result.OK, ())
    assert {one.why for one in found.unread} <= {"it was purged"}
    since = life.verify(life.seen)
    assert (since.result, since.findings) == (Result.OK, ())
    life.seen = since.seen


def check_read(life):
    """What is not purged is read as it was, where the archives are said to be."""
    with life.opened(archives=[life.place]) as trail:
        read = {event.event_id: event for event in trail.events(action="chart.read")}
    model = {name: told for name, told in life.model.events.items() if not told.is_purged}
    assert read.keys() == model.keys()
    for name, told in model.items():
        event, expected = read[name], told.values | dict.fromkeys(told.erased, "[erased]")
        assert {"details": event.details["email"], "agent": event.user_agent} == expected


def check_by_others(life):
    """The verifier that is not ours finds the same, with the archives and without."""
    (life.folder / "archive").mkdir(exist_ok=True)  # everything may be held
    for folder in ([], [life.folder / "archive"]) if life.kind == "sqlite" else ():
        command = [sys.executable, "-I", VERIFIER, urlsplit(life.url).path, life.key, *folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def check_forgotten(life, folder):
    """No value that was erased, or purged, stands in any table, file, export, bundle or report."""
    purged = {value for told in life.model.events.values() if told.is_purged for value in told.values.values()}
    gone = life.gone | purged
    for name, text in surfaces(life, folder):
        assert [value for value in gone if value in text] == [], name
    if life.kind == "sqlite":
        path = urlsplit(life.url).path
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
        content = Path(path).read_bytes()
        assert [value for value in gone if value.encode() in content] == []


def check_changes(life, attacks):
    owner = Owner(life)
    kinds = {}
    for table, place, column in owner.changes():
        kinds.setdefault((table, column or ""), []).append((table, place, column))
    order = sorted(kinds)
    for number in range(life.seed * attacks, (life.seed + 1) * attacks):  # the next life goes on with the next column
        table, place, column = life.random.choice(kinds[order[number % len(order)]])
        with owner.changed(table, place, column):
            assert is_found(life), (table, place, column)
    check_returned(life, owner)
    for path in sorted((life.folder / "archive").glob("*")):
        if life.random.random() < 0.5 and is_named(life, path.name):
            change_object(life, path)
    assert life.verify().findings == ()


def check_returned(life, owner):
    """What is erased or purged now, and somebody has kept and puts back."""
    before = owner.values()
    for step in ("lift", "erase", "erase", "archive", "purge"):
        getattr(life, step)()
    with life.opened() as trail:
        trail.anchor_now()
    for value in life.random.sample(gone := sorted(before - owner.values()), min(4, len(gone))):
        with owner.added(value):
            assert is_found(life), value


def is_found(life):
    try:
        return life.verify().result is Result.FAILED
    except IntegrityError:
        return True


def is_named(life, name):
    """Whether a statement names it: what was written before a backup was put back lies there too."""
    with life.opened() as trail:
        ring = trail.chain.keyring
        return any(one.object == name and one.sequence not in ring.purges for one in ring.archives.values())


def change_object(life, path):
    content = path.read_bytes()
    place = life.random.randrange(len(content))
    path.chmod(0o600)
    path.write_bytes(content[:place] + bytes([content[place] ^ 1 << life.random.randrange(8)]) + content[place + 1 :])
    assert is_found(life), (path.name, place)
    path.unlink()
    assert is_found(life), path.name
    path.write_bytes(content)
