"""Our own connections to a SQLite file, and what we do on those of the application."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.keys import LocalSigner
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing.making import make_chain
from audit_core.trail import AuditTrail
from tests.reports.trails import as_nobody, let_everybody_in


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def actions(path):
    with AuditTrail(f"sqlite:///{path}", lifecycle=False, create=False) as trail:
        assert trail.verify().findings == ()
        return [event.action for event in trail.events(newest_first=False)]


class TestAFileThatWasReplaced:
    def test_nothing_is_acknowledged_into_a_file_that_lies_at_its_path_no_more(self, path, tmp_path, caplog):
        AuditTrail(f"sqlite:///{tmp_path / 'new.db'}", lifecycle=False).close()
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            trail.record("into.old")
            trail.flush()
            path.rename(tmp_path / "old.db")
            (tmp_path / "new.db").rename(path)
            trail.record("into.new")
            trail.flush()
            assert [event.action for event in trail.events() if event.action != "log.created"] == ["into.new"]
        assert "opened anew" in caplog.text
        assert "into.new" in actions(path)
        assert "into.new" not in actions(tmp_path / "old.db")

    @pytest.mark.parametrize("mode", ["WAL", "DELETE"])
    def test_what_is_written_while_it_is_replaced_is_written_again(self, path, tmp_path, monkeypatch, mode):
        AuditTrail(f"sqlite:///{tmp_path / 'new.db'}", lifecycle=False).close()
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            connection = sqlite3.connect(path)
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.close()
            trail.record("into.old")
            trail.flush()
            real, replaced = trail.chain.append_drafts, []

            def replace_meanwhile(*args):
                if not replaced:
                    replaced.append(True)
                    for file in path.parent.glob("clinic.db*[!t]"):  # its journals with it, but not the folder
                        file.rename(tmp_path / file.name.replace("clinic", "old"))
                    (tmp_path / "new.db").rename(path)
                return real(*args)

            monkeypatch.setattr(trail.chain, "append_drafts", replace_meanwhile)
            trail.record("a.b")
            trail.flush()
        assert actions(path).count("a.b") == 1

    def test_what_is_recorded_while_there_is_no_file_waits_until_it_is_back(self, path, tmp_path):
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            trail.record("a.b")
            trail.flush()
            path.rename(tmp_path / "away.db")
            trail.record("a.c")
            with pytest.raises(StoreUnavailableError):
                trail.flush(0.3)
            (tmp_path / "away.db").rename(path)
            trail.flush()
        assert actions(path).count("a.c") == 1

    def test_a_reader_sees_the_new_file_too(self, path, tmp_path):
        for name in (path, tmp_path / "new.db"):
            connection = sqlite3.connect(name)
            connection.execute(f"CREATE TABLE {name.stem} (x)")
            connection.close()
        database = SqliteDatabase(path)
        assert database.has_table("clinic")
        (tmp_path / "new.db").rename(path)
        assert not database.has_table("clinic")
        assert database.has_table("new")
        path.unlink()
        assert not database.has_table("new")
        with pytest.raises(ConfigurationError, match="There is no file"), database.transaction():
            pass
        database.close()


def test_a_connection_is_not_closed_while_another_thread_uses_it(path):
    sqlite3.connect(path).close()
    database, inside, closed = SqliteDatabase(path), threading.Event(), threading.Event()

    def close():
        inside.wait(5)
        database.close()
        closed.set()

    thread = threading.Thread(target=close)
    thread.start()
    with database.transaction() as connection:
        inside.set()
        assert not closed.wait(0.2)
        connection.execute("CREATE TABLE kept (x)")
    thread.join(5)
    assert closed.is_set()
    assert database.has_table("kept")
    database.close()


@pytest.mark.parametrize("text_factory", [bytes, lambda data: data.decode().upper()])
def test_a_connection_with_a_text_factory_of_its_own_carries_events_and_keeps_it(path, text_factory):
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.text_factory = text_factory
        trail.opened()
        trail.record("a.b")
        connection.execute("BEGIN IMMEDIATE")
        trail.carry([trail.event("a.c")], connection, "app")
        connection.execute("COMMIT")
        assert connection.text_factory is text_factory
        connection.close()
        trail.closed()
        trail.flush()
        assert [event.sealed for event in trail.events(action="a.c")] == [True]
        assert [event.sealed for event in trail.events(action="a.b")] == [True]
        assert trail.verify().findings == ()


class Stubborn:
    def __init__(self, error):
        self.error = error

    def __str__(self):
        raise self.error


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_signal_handler_that_ends_the_process_does_so_while_a_value_is_read(path, end):
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail, pytest.raises(end):
        trail.record("a.b", details={"value": Stubborn(end())})


def test_a_database_that_cannot_hold_every_text_is_refused_with_the_cure(path, tmp_path):
    with closing(sqlite3.connect(tmp_path / "utf16.db")) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE patients (id)")
    url = f"sqlite:///{tmp_path}/utf16.db"
    for make in (lambda: AuditTrail(url), lambda: AuditTrail(f"sqlite:///{path}", outbox=url)):
        with pytest.raises(ConfigurationError, match=r"UTF-16.*\.dump"):
            make()


class TestAFileThatIsReachedByALink:
    @pytest.fixture
    def link(self, path, tmp_path):
        (tmp_path / "release").mkdir()
        AuditTrail(f"sqlite:///{path}", lifecycle=False).close()
        (tmp_path / "release" / "clinic.db").symlink_to(path)
        return f"sqlite:///{tmp_path}/release/clinic.db"

    def test_what_waits_is_found_when_the_link_is_gone(self, path, link):
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as other, AuditTrail(link, lifecycle=False) as trail:
            other.opened()  # a request, so that the event has to wait
            trail.record("while.busy")
            assert [event.action for event in other.waiting()] == ["while.busy"]
            other.closed()
        Path(link.removeprefix("sqlite:///")).unlink()
        assert "while.busy" in actions(path)


def test_the_first_event_of_a_process_does_not_wait_for_a_file_that_is_locked(path):
    AuditTrail(f"sqlite:///{path}", lifecycle=False).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail:
            begun = time.monotonic()
            trail.record("a.b")
            trail.opened()  # nor does a request that begins meanwhile
            trail.closed()
            assert time.monotonic() - begun < 2
            other.rollback()
    assert "a.b" in actions(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="root writes what another user may only read")
def test_a_quiet_file_is_opened_anew_when_somebody_writes_it(path):
    """In WAL mode whoever may not write its folder reads it without locks, as long as nobody else has it open."""
    signer = LocalSigner(b"k" * 32)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")

    def write():
        trail = AuditTrail(f"sqlite:///{path}", signer=signer, lifecycle=False)
        with trail, trail.store.transaction(patient=True) as connection:
            trail.chain.append([trail.event("a.b", details={"text": "x" * 500}) for _ in range(500)], connection)

    write()
    let_everybody_in(path)
    path.parent.chmod(0o555)
    (is_open, opened), (is_written, written) = os.pipe(), os.pipe()

    def read():
        chain = make_chain(SqliteStore(SqliteDatabase(path)))
        assert chain.store.extent().events == 501
        os.write(opened, b"x")
        os.read(is_written, 1)
        assert chain.store.extent().events == 1001
        return len(chain.verify().findings)

    def write_meanwhile():
        os.read(is_open, 1)
        write()
        os.write(written, b"x")

    writer = threading.Thread(target=write_meanwhile)
    writer.start()
    assert as_nobody(read) == 0
    writer.join()
    path.parent.chmod(0o755)


class TestATransactionThatDoesNotFitIntoTheCache:
    """SQLite then locks the file, also against readers: whoever asks on another connection waits for himself."""

    @pytest.fixture
    def connection(self, path):
        AuditTrail(f"sqlite:///{path}", lifecycle=False).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE scan (picture)")
            connection.execute("PRAGMA cache_size = 10")
            yield connection

    def change(self, trail, connection):
        connection.execute("INSERT INTO scan VALUES (?)", ("x" * 1_000_000,))
        trail.carry([trail.event("scan.add")], connection, "app")

    def test_is_sealed_at_once_though_it_is_the_first_of_its_process(self, path, connection):
        for _ in range(2):
            with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
                self.change(trail, connection)
                connection.commit()
                assert all(event.sealed for event in trail.events())
        assert actions(path).count("scan.add") == 2

    def test_takes_along_what_was_spilled_however_often_it_writes(self, path, connection):
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            trail.opened()
            trail.record("while.busy")
            for _ in range(3):
                self.change(trail, connection)
            connection.commit()
            assert [event.action for event in trail.events() if event.sealed].count("scan.add") == 3
            trail.closed()
        assert actions(path).count("while.busy") == 1
