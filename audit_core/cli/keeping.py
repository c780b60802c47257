"""``audit init``, ``audit status`` and ``audit seal``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from audit_core.canonical import parse_timestamp
from audit_core.chain.statements import find_lost, lost_sentence
from audit_core.cli.anchors import holding, in_words
from audit_core.cli.place import Anchors, AsJson, Url, chosen_url, open_trail
from audit_core.cli.postgres import database_of, follow_apart
from audit_core.cli.terminal import note, say, say_exactly, say_json
from audit_core.cli.trails import ROOF, each, open_trails
from audit_core.cli.words import as_clause, as_sentence
from audit_core.errors import ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.postgres.making import make_roles
from audit_core.signing import CURE, UNFINISHED
from audit_core.trail import AuditTrail
from audit_core.urls import schema_sql, without_password

LOOK_SECONDS = 0.25  # how often --follow looks for what waits
WRONG_KEY = f"This process's signing key is not the trail's: {CURE}. Until then its events wait, and are not lost."
NO_KEY = "This user has no signing key: whoever only reads needs none, and what he recorded would wait to be sealed."

NOT_WRITABLE = (
    "This user may not write to the trail, or its database is read-only just now: run `audit {command}` as one who "
    "may, and where it can be written."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(init)
    app.command(short_help="Show size, what waits, who seals, whose key.")(status)
    app.command()(seal)


def init(
    context: typer.Context,
    *,
    url: Url = None,
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="The chain's name, e.g. example.com/clinic. It stays for ever.")
    ] = None,
    roles: Annotated[
        bool, typer.Option("--roles", help="PostgreSQL: make roles for application, sealer, auditor, eraser.")
    ] = False,
    only_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, and run nothing.")] = False,
) -> None:
    """Make the tables and the first record. May be repeated."""
    if only_sql:
        say_exactly(schema_sql(chosen_url(context, url), roles=roles))
        return
    with open_trail(context, url, create=True, origin=origin) as trail:
        if not trail.store.is_writable():
            raise StoreUnavailableError(NOT_WRITABLE.format(command="init"))
        trail.store.create()  # what was dropped since
        _check_checkpoints(trail)
        with trail.store.transaction(patient=True) as connection:
            if trail.store.head(connection) is None:
                trail.chain.append([], connection)
        if roles:
            make_roles(database_of(trail))
        say(f"origin        {trail.chain.origin}")
        say(f"verifier key  {trail.chain.named_key}")
        if origin not in {None, trail.chain.origin}:
            note(f"The trail was there already, and its origin stays: {trail.chain.origin}.", "yellow")
        _note_trouble(trail.status())
        note("Hand the verifier key to the auditor by a way that whoever runs this database does not control.")


def _check_checkpoints(trail: AuditTrail) -> None:
    """To begin again over what was sealed would hide that its checkpoints are gone."""
    events, signed = trail.store.extent()
    if events and not signed:
        raise IntegrityError(
            f"The trail has {events:,} events, but its signed checkpoints were removed: `audit init` cannot make them "
            "again. Put them back from a backup; new events wait until then."
        )


def status(context: typer.Context, *, url: Url = None, anchor: Anchors = None, as_json: AsJson = False) -> None:
    """Show size, newest checkpoint, what waits, who seals, with which key, and what anchors hold."""
    if context.obj.is_about_several:
        _status_of_all(context, anchor, as_json=as_json)
        return
    with open_trail(context, url) as trail:
        found = _describe(trail, anchor)
        if as_json:
            say_json(found)
        else:
            _say_status(found)


def _status_of_all(context: typer.Context, anchor: Sequence[str] | None, *, as_json: bool) -> None:
    """``anchor`` are the roof's; each chain has the roof."""
    with open_trails(context) as (trails, _):
        found = {name: _describe(trail, anchor if name == ROOF else None) for name, trail in each(trails)}
    if as_json:
        say_json({"roof": found.pop(ROOF), "chains": found})
        return
    for name, one in found.items():
        say(f"{name}:", "bold")
        _say_status(one)


def _describe(trail: AuditTrail, anchor: Sequence[str] | None) -> dict[str, Any]:
    found = trail.status()
    found["url"] = without_password(str(found["url"]))
    found["anchors"] = [holding(answer) for answer in trail.anchoring.newest(anchor)]
    return found


def _say_status(found: dict[str, Any]) -> None:
    for name, value in _status_lines(found).items():
        say(f"{name:<15}{value}")
    for one in found["anchors"]:
        say(f"{'anchor':<15}{in_words(one)}", "yellow" if one["trouble"] else "")
    _note_trouble(found)


def seal(
    context: typer.Context,
    *,
    url: Url = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C.")] = False,
    anchor: Anchors = None,
) -> None:
    """Seal what waits, and what dead processes left. With --follow, go on with that, and give it to the anchors."""
    with open_trail(context, url, anchors=(anchor or ()) if follow else ()) as trail:
        trail.store.extent()  # there is a trail
        if not _may_seal(trail, follow=follow):
            raise StoreUnavailableError(NOT_WRITABLE.format(command="seal"))
        if trail.store.head() is not None:
            _check_head(trail)
            if not follow:
                _check_anchors(trail, anchor)
        if trail.store.seals_in_transaction:
            note("Here whoever writes an event seals it: only what a process left behind has to be sealed.")
        with until_told() as told:
            if follow:
                _try_seal(trail, quiet=False)
                trail.keep_sealing()
            else:
                _seal(trail)
            if follow and trail.store.seals_in_transaction:
                while not told.wait(LOOK_SECONDS):
                    if next(trail.waiting(), None) is not None:
                        _try_seal(trail)
            elif follow:
                follow_apart(trail, told)


def _check_head(trail: AuditTrail) -> None:
    found = trail.status()
    if found["trouble"]:
        raise IntegrityError(f"Nothing is sealed: {as_clause(found['trouble'])}")
    if not found["key_is_ours"]:
        raise ConfigurationError(WRONG_KEY)


def _check_anchors(trail: AuditTrail, anchors: list[str] | None) -> None:
    """Who follows asks them all the time. What a witness says is signed by nobody, and stops no sealer."""
    for answer in trail.anchoring.signed(anchors):
        if (lost := find_lost(trail.chain, [answer], trail.signing_key.held())).trees:
            raise IntegrityError(lost_sentence(lost, answer.where))


def _may_seal(trail: AuditTrail, *, follow: bool) -> bool:
    """Who follows waits for a database that is read-only just now."""
    waits = follow and not trail.store.seals_in_transaction
    return trail.store.may_append() if waits else trail.store.is_writable()


def _try_seal(trail: AuditTrail, *, quiet: bool = True) -> None:
    try:
        _seal(trail, quiet=quiet)
    except StoreUnavailableError as error:
        note(str(error), "yellow")


def _seal(trail: AuditTrail, *, quiet: bool = False) -> None:
    before = sum(1 for _ in trail.waiting())
    trail.flush()
    after = sum(1 for _ in trail.waiting())
    sealed = max(0, before - after)
    if sealed or not quiet:
        say(f"{sealed:,} sealed; the trail holds {trail.store.extent().events:,} events.")
    if after and not quiet:
        note(f"{after:,} still wait: running processes hold them in spill files, and write them themselves.")


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Set by SIGTERM and SIGINT, while the block runs."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status_lines(found: dict[str, Any]) -> dict[str, object]:
    waiting = f"{found['waiting']:,}"
    if oldest := found["oldest_waiting"]:
        age = datetime.now(UTC) - parse_timestamp(oldest)
        waiting += f", the oldest for {timedelta(seconds=max(0, int(age.total_seconds())))}"
    return {
        "trail": found["url"],
        "origin": found["origin"] or "none yet: the first event begins the trail",
        "events": f"{found['size']:,}",
        "last sealed": found["sealed_at"] or "never",
        "root": found["root"] or "none",
        "waiting": waiting,
        **({"queue": _queue_line(queue)} if (queue := found["queue"]) else {}),
        "sealed by": found["sealed_by"],
        "verifier key": found["key"] or "none",
        "our key": _whose_key(found),
    }


def _queue_line(queue: dict[str, Any]) -> str:
    if queue["trouble"]:
        return str(queue["trouble"])  # which names it
    return f"{queue['waiting']:,} of these wait in {queue['name']}"


def _note_trouble(found: dict[str, Any]) -> None:
    if found["next_key"]:
        note(as_sentence(UNFINISHED.format(found["next_key"])), "yellow")
    if found["trouble"]:
        note(f"Nothing is sealed: {as_clause(found['trouble'])}", "red")
    elif found["size"] and not found["key_is_ours"]:
        note(WRONG_KEY if found["key_place"] else NO_KEY, "yellow")


def _whose_key(found: dict[str, Any]) -> str:
    if (place := found["key_place"]) is None:
        return "none"
    if found["key"] is None:
        return f"is compared with the trail's when there is one ({place})"
    return f"is the trail's ({place})" if found["key_is_ours"] else f"is not the trail's ({place})"
