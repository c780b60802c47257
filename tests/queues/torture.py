"""Processes that send, the one that seals and the broker are killed, each again and again: what is there in the end."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

from audit_core import AuditTrail
from audit_core.errors import AuditError
from audit_core.postgres.making import make_roles
from tests.postgres.server import as_role, new_database

ROOT = Path(__file__).parents[2]
EVERYBODY = ("producer", "sealer", "broker")
TOGETHER = 50  # events that a process has on their way at a time
PRODUCER = """
    import sys, time
    from pathlib import Path
    from audit_core import AuditTrail

    url, queue, log, finish, count, together = *sys.argv[1:5], *map(int, sys.argv[5:])
    acknowledged = Path(log)
    done = acknowledged.read_text().count("\\n") if acknowledged.exists() else 0
    with AuditTrail(url, queue=queue, lifecycle=False, create=False) as trail, acknowledged.open("a") as file:
        while done < count:
            while count - done <= together and not Path(finish).exists():
                time.sleep(0.05)
            some = [trail.submit("a.b", resource=("n", "1")) for _ in range(min(together, count - done))]
            file.write("".join(f"{each.result().event_id}\\n" for each in some))
            file.flush()
            done += len(some)
            time.sleep(0.1)  # so that there is time to kill somebody
"""


class Outcome(NamedTuple):
    acknowledged: int
    lost: int  # of those: they are in no chain
    counted: int  # by the events of gaps
    unknown: int  # gaps of which nobody knows how much they lost
    kills: int


def end(process):
    """As kill -9 does."""
    process.kill()
    process.communicate()


class Round:
    """One trail in PostgreSQL, one queue, and who kills whom."""

    def __init__(self, queue, broker, folder, *, events, processes, kill, seed=1):
        """``kill`` are whom to kill: "producer", "sealer", "broker", or "both" of the last two."""
        self.queue, self.broker, self.folder = queue, broker, folder
        self.share, self.kill, self.chance = events // processes, kill, random.Random(seed)
        self.url = new_database()
        self.logs = [folder / f"{number}.log" for number in range(processes)]
        (folder / "producer.py").write_text(textwrap.dedent(PRODUCER))
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUDIT_STATE_DIR": str(folder / "state")}
        os.environ["AUDIT_STATE_DIR"] = str(folder / "state")
        with AuditTrail(self.url, queue=queue, lifecycle=False) as trail:
            with trail.store.transaction() as connection:
                trail.chain.append([], connection)
            make_roles(trail.store.database)
        self.web, self.sealing = as_role(self.url, "audit_application"), as_role(self.url, "audit_sealer")

    def play(self, every):
        """Kill somebody each so many seconds, until all is sent; then see what there is."""
        producers = [self._producer(log) for log in self.logs]
        sealer, kills = self._sealer(), 0
        while not self._have_sent(self.share - TOGETHER):
            time.sleep(every * self.chance.uniform(0.5, 1.5))
            victim = self.chance.choice(self.kill)
            kills += 1
            if victim in {"sealer", "both"}:
                end(sealer)
            if victim == "both":
                time.sleep(0.5 * every)  # what comes now nobody seals
            if victim in {"broker", "both"}:
                self.broker.kill()
                time.sleep(0.3 * every)
                self.broker.start()
            if victim in {"sealer", "both"}:
                sealer = self._sealer()
            if victim == "producer":
                end(self.chance.choice(producers))
            for number, process in enumerate(producers):
                if process.poll() not in {None, 0}:
                    producers[number] = self._producer(self.logs[number])
        (self.folder / "finish").touch()  # whoever lost something goes on, and it is seen
        for process in producers:
            assert process.wait(60) == 0
        sealer.send_signal(signal.SIGTERM)
        sealer.communicate(timeout=60)
        return self._outcome(kills)

    def _have_sent(self, count):
        return all(log.exists() and log.read_text().count("\n") >= count for log in self.logs)

    def _producer(self, log):
        words = [sys.executable, str(self.folder / "producer.py"), self.web, self.queue, str(log)]
        words += [str(self.folder / "finish"), str(self.share), str(TOGETHER)]
        return subprocess.Popen(words, env=self.environment, stderr=subprocess.DEVNULL)

    def _sealer(self):
        words = [
            sys.executable,
            "-m",
            "audit_core.cli",
            "--url",
            self.sealing,
            "--queue",
            self.queue,
            "seal",
            "--follow",
        ]
        out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(words, env=self.environment, **out)

    def _seal_all(self, trail):
        """Also what whoever was killed has left in spill files."""
        deadline = time.monotonic() + 120
        is_done = False
        while not is_done:
            assert time.monotonic() < deadline
            try:
                trail.flush()
                is_done = next(trail.sealer.drain.waiting(), None) is None
            except AuditError:
                time.sleep(0.2)

    def _outcome(self, kills):
        acknowledged = {line for log in self.logs for line in log.read_text().split()}
        with AuditTrail(self.url, queue=self.queue, lifecycle=False) as trail:
            self._seal_all(trail)
            assert trail.chain.verify().findings == ()  # that no id stands twice is a part of it
            sealed = [event.event_id for event in trail.events(action="a.b") if event.sealed]
            assert len(sealed) == len(set(sealed))
            gaps = [event.details["lost"] for event in trail.events(action="trail.gap")]
        lost = acknowledged.difference(sealed)
        known = [count for count in gaps if count is not None]
        return Outcome(len(acknowledged), len(lost), sum(known), len(gaps) - len(known), kills)
