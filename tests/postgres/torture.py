"""Writers, sealers that are killed, a server that falls: what a torture is made of. Its long form runs for hours."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from audit_core import AuditTrail
from tests.postgres.server import as_role, new_database

ROOT = Path(__file__).parents[2]

WRITER = """
import random, sys, threading, time
import psycopg
from audit_core import AuditTrail

url, name, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
trail = AuditTrail(url, lifecycle=False)
ends = time.monotonic() + seconds

def put(connection, tag, part):
    connection.execute("INSERT INTO business (tag) VALUES (%s)", (f"{tag}:{part}",))
    trail.carry([trail.event("work.done", resource=("work", f"{tag}:{part}"))], connection, "business")

def transaction(connection, tag, chance):
    put(connection, tag, 0)
    if chance.random() < 0.3:
        connection.execute("SAVEPOINT one")
        put(connection, tag, 1)
        if chance.random() < 0.5:
            connection.execute("ROLLBACK TO SAVEPOINT one")
    if chance.random() < 0.1:
        time.sleep(chance.random() / 5)
    put(connection, tag, 2)
    (connection.rollback if chance.random() < 0.2 else connection.commit)()

def work(number):
    chance = random.Random(f"{name}-{number}")
    connection, count = None, 0
    while time.monotonic() < ends:
        count += 1
        try:
            connection = connection or psycopg.connect(trail.outboxes[0].database.conninfo)
            transaction(connection, f"{name}-{number}-{count}", chance)
        except Exception as error:  # the server fell, or two transactions cannot be serialised
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.05)

workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
trail.close()
"""

SEALER = """
import sys, time
from audit_core import AuditTrail
trail = AuditTrail(sys.argv[1], lifecycle=False, create=False)
trail.keep_sealing()
while True: time.sleep(60)
"""


def start(code, *arguments, state):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUDIT_STATE_DIR": str(state)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, cwd=ROOT)


def torture(url, state, *, seconds, fall=lambda: None, writers=4, threads=6):
    """Work on the trail at ``url``; ``fall`` makes the server fall in the middle. What must hold is for the caller."""
    application, sealer = as_role(url, "audit_application"), as_role(url, "audit_sealer")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE business (tag text PRIMARY KEY)")
        connection.execute("GRANT INSERT, SELECT ON business TO audit_application")
    workers = [start(WRITER, application, f"w{n}", threads, seconds, state=state) for n in range(writers)]
    steady = start(SEALER, sealer, state=state)
    try:
        _kill_sealers(sealer, state, seconds, fall)
        for worker in workers:
            assert worker.wait(timeout=600) == 0
    finally:
        for process in [*workers, steady]:
            process.kill()
            process.wait()


def _kill_sealers(sealer, state, seconds, fall):
    chance, ends, fallen = random.Random(7), time.monotonic() + seconds, False
    while (left := ends - time.monotonic()) > 0:
        victim = start(SEALER, sealer, state=state)
        time.sleep(min(left, 0.7 + chance.random()))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        if not fallen and left < seconds / 2:
            fallen = True
            fall()


def check(url):
    """Every committed event once, none that was rolled back, in the order of each transaction, and no finding."""
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush(60)
        assert list(trail.waiting()) == []
        sealed = [event.resource_id for event in trail.events(action="work.done", newest_first=False)]
        in_order = [event.resource_id for event in _by_sequence(trail)]
        assert trail.chain.verify().findings == ()
    with psycopg.connect(url) as connection:
        committed = [tag for (tag,) in connection.execute("SELECT tag FROM business")]
    assert len(committed) > 100
    assert sorted(sealed) == sorted(committed)
    last = {}
    for tag in in_order:
        transaction, _, part = tag.partition(":")
        assert last.get(transaction, -1) < int(part), transaction
        last[transaction] = int(part)
    return len(committed)


def _by_sequence(trail):
    from audit_core.rows import from_row

    events = map(from_row, trail.store.rows())
    return [event for event in events if event.action == "work.done"]


def play(server, isolation, state, seconds):
    """A torture on a new database with hostile defaults; how many events were committed, and are sealed once each."""
    url = new_database(url=server.url)
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        connection.execute(f"ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo'")
        connection.execute(f"ALTER DATABASE {name} SET DateStyle = 'German, DMY'")
    with AuditTrail(url) as trail:
        trail.store.database.run("postgres_roles.sql")
    held = psycopg.connect(url)
    held.execute("CREATE TABLE held ()")  # a transaction that stays open all the while
    torture(url, state, seconds=seconds, fall=server.restart)
    held.close()
    return check(url)
