"""Which settings of a Redis can lose events that wait in it: for ``audit doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit_core.postgres.doctor import Check

_FSYNC = {
    "always": Check(holds=True, text="Redis acknowledges an event when its disk has it (appendfsync always)"),
    "everysec": Check(
        holds=True,
        is_note=True,
        text="a crash of Redis's machine loses the events of the last second or two that were not sealed (appendfsync "
        "everysec): `appendfsync always` loses none",
    ),
    "no": Check(
        holds=False,
        text="a crash of Redis's machine loses what the system has not written, half a minute of it (appendfsync no): "
        "set appendfsync to always, or to everysec",
    ),
}


def check_settings(client: Any) -> Iterator[Check]:
    """Each setting in turn. Raises what redis-py raises when the server cannot be asked."""
    persistence, memory, replication = (client.info(part) for part in ("persistence", "memory", "replication"))
    yield from _persistence(persistence, _setting(client, "appendfsync"))
    yield from _memory(memory)
    yield from _replication(replication)


def _persistence(found: Any, fsync: str | None) -> Iterator[Check]:
    if not found.get("aof_enabled"):
        yield Check(
            holds=False,
            text="Redis keeps no append-only file: a restart loses every event that is not sealed; set appendonly yes",
        )
        return
    if found.get("aof_last_write_status", "ok") != "ok":
        yield Check(holds=False, text="Redis could not write its append-only file: make room on its disk")
    if fsync in _FSYNC:
        yield _FSYNC[fsync]
    else:
        text = "not tried: when Redis writes to its disk, which this user may not ask (CONFIG GET appendfsync)"
        yield Check(holds=True, is_note=True, text=text)


def _memory(found: Any) -> Iterator[Check]:
    limit, policy = int(found.get("maxmemory", 0)), str(found.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        text = f"Redis may throw the queue away when its memory is full (maxmemory-policy {policy}): set noeviction"
        yield Check(holds=False, text=text)
    elif limit:
        yield Check(holds=True, text=f"Redis refuses events above {limit / 1e6:,.0f} MB, and they wait in spill files")
    else:
        text = "Redis has no limit of memory (maxmemory 0): while nobody seals, events fill its machine"
        yield Check(holds=True, is_note=True, text=text)


def _replication(found: Any) -> Iterator[Check]:
    if found.get("role") != "master":
        yield Check(holds=False, text="this Redis is a replica, which takes no events: name the primary")
    elif replicas := found.get("connected_slaves", 0):
        text = f"{replicas} replicas of Redis may lack the last events when one of them is promoted: they are told of"
        yield Check(holds=True, is_note=True, text=text)


def _setting(client: Any, name: str) -> str | None:
    """None where this user may not ask, as at most who sell it."""
    from redis.exceptions import ResponseError

    try:
        found: Any = client.config_get(name)
    except ResponseError:
        return None
    return str(found.get(name)) if found else None
