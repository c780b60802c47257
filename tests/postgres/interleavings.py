"""Two business transactions and the sealer, one step at a time, in any order. The long form takes every order."""

import itertools
import random

import psycopg

from audit_core import AuditTrail
from audit_core.rows import from_row

STEPS = ("write", "write and undo", "write", "end")
ENDS = ("commit", "rollback")
IMPATIENT = "-c lock_timeout=200ms -c statement_timeout=5s"  # whoever waits for the other runs into it
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class Transaction:
    """One transaction of an application, on a connection of its own."""

    def __init__(self, trail, connection, name, end):
        self.trail, self.connection, self.name, self.end = trail, connection, name, end
        self.steps = iter(STEPS)
        self.written, self.committed = [], []

    def step(self):
        match next(self.steps):
            case "write":
                self._write()
            case "write and undo":
                self.connection.execute("SAVEPOINT one")
                self._write()
                self.connection.execute("ROLLBACK TO SAVEPOINT one")
                self.written.pop()
            case "end":
                getattr(self.connection, self.end)()
                self.committed = self.written if self.end == "commit" else []

    def _write(self):
        tag = f"{self.name}:{len(self.written)}"
        self.connection.execute("INSERT INTO business (tag) VALUES (%s)", (tag,))
        self.trail.outboxes[0].put([self.trail.event("work.done", resource=("work", tag))], self.connection)
        self.written.append(tag)


def orders():
    """Every order of the steps of two transactions, and every way for each to end."""
    length = 2 * len(STEPS)
    firsts = itertools.combinations(range(length), len(STEPS))
    return [
        (["first" if place in chosen else "second" for place in range(length)], ends)
        for chosen in firsts
        for ends in itertools.product(ENDS, repeat=2)
    ]


def play(url, count=None):
    """Run ``count`` of the orders, or all; after each seal, what is committed must be sealed, and nothing else."""
    chance = random.Random(5)
    chosen = orders() if count is None else chance.sample(orders(), count)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE business (tag text PRIMARY KEY)")
    with (
        AuditTrail(url, lifecycle=False) as trail,
        psycopg.connect(url, options=IMPATIENT) as one,
        psycopg.connect(url, options=IMPATIENT) as two,
    ):
        scene = Scene(trail, (one, two))
        for number, (order, ends) in enumerate(chosen):
            scene.play(number, order, ends, chance)
        assert trail.chain.verify().findings == ()
        rows = [tag for (tag,) in one.execute("SELECT tag FROM business")]
        assert sorted(rows) == sorted(scene.sealed)
    return len(chosen)


class Scene:
    """One order after the other on the same trail."""

    def __init__(self, trail, connections):
        self.trail, self.connections, self.sealed = trail, connections, []

    def play(self, number, order, ends, chance):
        both = {}
        for name, connection, end in zip(("first", "second"), self.connections, ends, strict=True):
            connection.execute(f"SET TRANSACTION ISOLATION LEVEL {chance.choice(LEVELS)}")
            both[name] = Transaction(self.trail, connection, f"{number}-{name}", end)
        already, seals = len(self.sealed), chance.random()
        for place, name in enumerate(order, 1):
            both[name].step()
            if place == len(order) or chance.random() < seals:
                self.seal()
                committed = [tag for transaction in both.values() for tag in transaction.committed]
                assert sorted(self.sealed[already:]) == sorted(committed), (order, ends)
        for transaction in both.values():
            mine = [tag for tag in self.sealed[already:] if tag in transaction.written]
            assert mine == transaction.committed, (order, ends)

    def seal(self):
        self.trail.sealer.seal()
        new = map(from_row, self.trail.store.rows(start=len(self.sealed) + 1))  # the first one is log.created
        self.sealed += [event.resource_id for event in new]
