"""One bit of a small trail flipped, wherever it is stored: each is found, but for `sealed_at`, which nobody signs.

The suite flips a bit of some bytes; the long form flips every bit of every byte. Tiles: tests/evidence/test_tiles.py.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from ipaddress import ip_address

import psycopg
import pytest

from audit_core.errors import IntegrityError
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.s3 import Locked
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.attacks.attacker import put_back, steal, without_guards
from tests.attacks.scenes import empty_store
from tests.attacks.test_attacks import KEY

SIGNER = LocalSigner(b"k" * 32)
EXTENT = [pytest.param(13, id="some"), pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(3_600)])]


def build(store):
    """log.created and two events under two checkpoints, each of which keeps its frontier."""
    chain = make_chain(store)
    filled = {"actor_id": "42", "tenant_id": "north", "source": "clinic", "ip_address": "192.0.2.7", "session_id": "s"}
    filled |= {"resource_type": "patient", "resource_id": "7", "user_agent": "curl/8", "request_id": "r-1"}
    seal(chain, [make_event(0, on_behalf_of="7", details={"name": {"old": "Ärztin", "new": None}}, **filled)])
    seal(chain, [make_event(1)])
    loot = steal(store)
    loot.resign(ORIGIN, SIGNER)
    put_back(store, loot)
    assert all(head.frontier for head in store.checkpoints())
    chain = make_chain(store)
    assert chain.verify(KEY).findings == ()
    return chain


def flips(data, step):
    """Every variant with one other bit; with a ``step`` above 1, one bit of each so many bytes."""
    for place in range(0, len(data), step):
        for bit in range(8) if step == 1 else [(place // step + place) % 8]:
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            yield bytes(flipped)


def number_flips(value, step):
    """Of a 64-bit integer."""
    for bit in range(64) if step == 1 else (0, 17, 62):
        flipped = value ^ 1 << bit
        yield flipped - (flipped >> 63 << 64)


def check(chain, column, what):
    """That it is found, if it has to be, and by more than a schema that the attacker could not leave as it was."""
    found = chain.verify(KEY)
    kinds = {finding.kind for finding in found.findings} - {"schema"}
    assert bool(kinds) == (column != "sealed_at"), (column, what, found.findings)
    if column == "frontier":
        assert kinds == {"checkpoint.frontier"}, what


# --- SQLite: what a column holds, as bytes


@pytest.mark.parametrize("step", EXTENT)
def test_a_flipped_bit_in_any_column_of_sqlite_is_found(tmp_path, step):
    with empty_store("sqlite", tmp_path) as store:
        chain, count = build(store), 0
        with closing(sqlite3.connect(store.database.path, isolation_level=None)) as attacker, without_guards(attacker):
            for table in ("audit_events", "audit_checkpoints"):
                for column, pristine, rowid in sqlite_values(attacker, table):
                    for value in sqlite_flips(pristine, step):
                        update = f"UPDATE {table} SET {column} = "
                        as_text = "CAST(? AS TEXT)" if isinstance(pristine, str) else "?"
                        there = value if column in {"sequence", "tree_size"} else rowid
                        with suppress(sqlite3.IntegrityError):  # that is the place of another row
                            attacker.execute(f"{update} {as_text} WHERE rowid = ?", (value, rowid))
                            check(chain, column, value)
                            attacker.execute(f"{update} ? WHERE rowid = ?", (pristine, there))
                            count += 1
        assert {finding.kind for finding in chain.verify(KEY).findings} <= {"schema"}
        assert count > 1_500 / step


def sqlite_values(attacker, table):
    rows = attacker.execute(f"SELECT rowid, * FROM {table}")
    names = [column[0] for column in rows.description][1:]
    return [(*named, rowid) for rowid, *values in rows.fetchall() for named in zip(names, values, strict=True)]


def sqlite_flips(value, step):
    if isinstance(value, int):
        yield from number_flips(value, step)
    elif value is not None:
        yield from flips(value.encode() if isinstance(value, str) else value, step)


# --- PostgreSQL: what a column's type holds

SINCE = "timestamptz '2000-01-01 00:00+00'"
READ = {"timestamptz": f"(extract(epoch FROM {{0}} - {SINCE}) * 1000000)::bigint", "uuid": "{0}::text"}
READ |= {"inet": "host({0})", "jsonb": "{0}::text"}
WRITE = {"timestamptz": f"{SINCE} + %s * interval '1 microsecond'", "uuid": "%s::uuid", "jsonb": "%s::jsonb"}
WRITE |= {"inet": "%s::inet"}


@pytest.mark.parametrize("step", [pytest.param(130, id="some"), *EXTENT[1:]])
def test_a_flipped_bit_in_any_column_of_postgresql_is_found(tmp_path, step):
    with empty_store("postgres", tmp_path) as store:
        chain, count = build(store), 0
        with psycopg.connect(store.database.conninfo, autocommit=True) as attacker:
            attacker.execute("SET session_replication_role = replica")
            for table in ("audit_events", "audit_checkpoints"):
                for column, kind, pristine, key, place in postgres_values(attacker, table):
                    change = f"UPDATE audit.{table} SET {column} = {WRITE.get(kind, '%s')} WHERE {key} = %s"
                    for value in postgres_flips(kind, pristine, step):
                        with suppress(psycopg.DataError, psycopg.IntegrityError):  # no value of that type
                            attacker.execute(change, (value, place))
                            check(chain, column, value)
                            count += 1
                            attacker.execute(change, (pristine, place))
        assert chain.verify(KEY).findings == ()
        assert count > 1_500 / step


def postgres_values(attacker, table):
    """Each value with another column by which its row is known."""
    columns = attacker.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
        (f"audit.{table}",),
    ).fetchall()
    known, number = ("event_hash", "sequence") if table == "audit_events" else ("signature", "tree_size")
    for column, type_ in columns:
        kind = "timestamptz" if type_.startswith("timestamp") else type_
        key = number if column == known else known
        query = f"SELECT {READ.get(kind, '{0}').format(column)}, {key} FROM audit.{table}"
        for value, place in attacker.execute(query).fetchall():
            yield column, kind, value, key, place


def postgres_flips(kind, value, step):
    if value is None:
        return
    if kind in {"bigint", "timestamptz"}:
        yield from number_flips(value, step)
    elif kind == "inet":
        yield from (str(ip_address(flipped)) for flipped in flips(ip_address(value).packed, min(step, 4)))
        yield from (f"{value}/{32 ^ 1 << bit}" for bit in range(0, 6, min(step, 5)))
    elif kind == "uuid":
        yield from (flipped.hex() for flipped in flips(bytes.fromhex(value.replace("-", "")), step))
    elif kind == "bytea":
        yield from flips(value, step)
    else:
        for flipped in flips(value.encode(), step):
            with suppress(UnicodeDecodeError):  # which the server refuses
                text = flipped.decode()
                if "\0" not in text:
                    yield text


# --- S3: what an object holds. No lock lets a test do that, but the disks of a server may rot.


class Rotten:
    """A bucket of which one object comes back otherwise than it was written."""

    def __init__(self, bucket, prefix):
        self.place, self.name, self.check = bucket.place, bucket.name, lambda: None
        self._objects = list(bucket.objects(prefix))
        self._found = {versions[0].key: bucket.read(versions) for versions in self._objects}
        self.bodies = {key: found.body for key, found in self._found.items()}

    def objects(self, prefix, before=""):
        return (versions for versions in self._objects if versions[0].key > before)

    def read(self, versions) -> Locked:
        return self._found[versions[0].key]._replace(body=self.bodies[versions[0].key])


@pytest.mark.parametrize("step", [pytest.param(41, id="some"), *EXTENT[1:]])
def test_a_flipped_bit_in_any_object_of_a_bucket_is_found(tmp_path, step):
    with empty_store("s3", tmp_path) as store:
        chain, count = build(store), 0
        bucket = store._bucket = Rotten(store._bucket, store._prefix)
        for key, body in list(bucket.bodies.items()):
            for flipped in flips(body, step):
                bucket.bodies[key] = flipped
                store._recent.clear()
                store._mirror.forget()
                unsigned = without_time(flipped) == without_time(body)
                check(chain, "sealed_at" if unsigned else key, flipped)
                count += 1
            bucket.bodies[key] = body
        assert count > 1_500 / step


def without_time(body):
    """What a checkpoint says of when it was sealed nobody signs, as long as it says something."""
    try:
        *events, last, end = body.decode().split("\n")
        head = json.loads(last)["checkpoint"]
        return [end, *events, {**head, "sealed_at": type(head["sealed_at"])}]
    except (ValueError, LookupError, TypeError):
        return body


# --- What a frontier is for


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres", "s3"])
def test_a_flipped_bit_in_a_frontier_seals_and_proves_nothing_that_is_wrong(tmp_path, kind):
    with empty_store(kind, tmp_path) as store:
        build(store)
        loot = steal(store)
        frontier = bytearray(loot.heads[-1].frontier)
        frontier[40] ^= 16
        loot.heads[-1] = loot.heads[-1]._replace(frontier=bytes(frontier))
        put_back(store, loot)
        chain = make_chain(store)
        for event in range(3):
            with suppress(IntegrityError):
                chain.prove(event).check(KEY)
        with pytest.raises(IntegrityError, match="nothing is sealed on top of them"):
            seal(chain, [make_event(5)])
        assert chain.verify(KEY).result is Result.FAILED


# --- What `audit prove` writes


@pytest.mark.parametrize("step", EXTENT)
def test_a_flipped_bit_in_a_written_proof_never_holds_for_anything_else(audit, path, tmp_path, step, monkeypatch):
    from audit_core.cli import proofs

    assert audit("prove", "5", "--out", tmp_path / "proof")[0] == 0
    (tmp_path / "key").write_text(audit("keygen", "--verifier", "--origin", "example.com/clinic")[1])
    key = proofs.read_key(str(tmp_path / "key"))
    written = (tmp_path / "proof").read_bytes()
    proofs._parse(written.decode(), tmp_path).check(key)
    for flipped in flips(written, step):
        try:
            proofs._parse(flipped.decode(), tmp_path).check(key)
        except (ValueError, IntegrityError, proofs.ConfigurationError, TypeError):
            continue
        assert json.loads(flipped) == json.loads(written), "\\u00E9 is \\u00e9"
