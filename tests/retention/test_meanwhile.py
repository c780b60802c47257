"""What somebody else does while a month is archived or purged, which takes its time, is not passed over."""

from datetime import UTC, datetime

import pytest

from audit_core.archives.places import FolderPlace
from audit_core.integrity.statement import HELD, LIFTED, PURGED
from audit_core.integrity.verify import Result
from audit_core.retention import holds
from audit_core.retention.archiving import Held
from audit_core.retention.policies import Retention
from audit_core.retention.purging import Purger
from audit_core.retention.sqlite_months import SqliteMonths
from tests.retention.scenes import KINDS, archive, checkpoint, make_year, opened, place_of, url_of, verify

NOW = datetime(2026, 3, 15, tzinfo=UTC)


@pytest.fixture(params=KINDS)
def url(request, tmp_path, state):
    url = url_of(request.param, tmp_path)
    make_year(url)
    return url


@pytest.fixture
def place(tmp_path):
    return place_of("sqlite", tmp_path)


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something, once, as soon as the archive has been asked for this."""

    def arrange(method, deed):
        usual, deeds = getattr(FolderPlace, method), [deed]

        def asked(*args):
            result = usual(*args)
            if deeds:
                deeds.pop()()
            return result

        monkeypatch.setattr(FolderPlace, method, asked)

    return arrange


def hold(url, name="patient:2025-01-2"):
    with opened(url) as trail, trail.store.transaction(patient=True) as connection:
        return holds.add(trail.chain, ("resource", name), "case 7", trail.event(HELD), connection)


def purge(url, keep="13m"):
    with opened(url) as trail:
        return list(Purger(trail.chain, trail.event, Retention.parse(keep, NOW)).run("over"))


def is_sound(url):
    found = verify(url, [checkpoint(url)])
    return (found.result, found.findings, found.warnings) == (Result.OK, (), ())


def test_a_hold_that_comes_while_its_month_is_written_keeps_it(url, place, meanwhile):
    meanwhile("put", lambda: hold(url))
    first, *others = archive(url, place)
    assert (type(first), first.month, [one.month for one in others]) == (Held, "2025-01", ["2025-02", "2025-03"])
    assert is_sound(url)


def test_a_hold_of_something_else_only_makes_it_be_looked_at_again(url, place, meanwhile):
    meanwhile("put", lambda: hold(url, "patient:nobody"))
    assert [one.month for one in archive(url, place, "2025-02")] == ["2025-01"]


def test_a_hold_that_comes_while_a_month_is_looked_at_keeps_it_from_being_destroyed(url, place, meanwhile):
    archive(url, place)
    meanwhile("locked_until", lambda: hold(url))
    (found,) = purge(url)
    assert (type(found), found.month) == (Held, "2025-01")
    with opened(url) as trail:
        assert trail.find(1).action
        with trail.store.transaction(patient=True) as connection:
            holds.lift(trail.chain, found.hold.sequence, "closed", trail.event(LIFTED), connection)
    assert [one.month for one, _ in purge(url)] == ["2025-01"]
    assert is_sound(url)


@pytest.mark.parametrize("is_finished", [True, False])
def test_of_two_who_archive_at_once_one_does_it(url, place, meanwhile, monkeypatch, is_finished):
    done = []

    def archive_too():
        with monkeypatch.context() as patch:
            if not is_finished:  # SQLite: he has stated it, and not removed yet
                patch.setattr(SqliteMonths, "finish", lambda _: 0)
            done.extend(archive(url, place))

    meanwhile("put", archive_too)
    assert archive(url, place) == []
    assert [one.month for one in done] == ["2025-01", "2025-02", "2025-03"]
    with opened(url) as trail:
        assert trail.find(3).action
        assert len(list(trail.store.left())) == sum(one.events for one in done)
    assert is_sound(url)


def test_of_two_who_purge_at_once_one_has_the_certificate(url, place, meanwhile):
    archive(url, place)
    done = []
    meanwhile("locked_until", lambda: done.extend(purge(url, "1m")))
    assert purge(url, "1m") == []
    assert [one.month for one, _ in done] == ["2025-01", "2025-02", "2025-03"]
    with opened(url) as trail:
        assert len(list(trail.events(action=PURGED))) == 3
    assert is_sound(url)
