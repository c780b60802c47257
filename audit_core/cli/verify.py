"""``audit verify``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_core.chain.verification import Verification
from audit_core.cli.alarm import Alarm
from audit_core.cli.findings import group, sentences
from audit_core.cli.keeping import until_told
from audit_core.cli.memory import recall, remember, usual_place
from audit_core.cli.place import (
    Anchors,
    Archives,
    AsJson,
    Url,
    open_trail,
    read_checkpoint,
    read_key,
    refuse_of_one,
)
from audit_core.cli.report import moment
from audit_core.cli.summary import summary
from audit_core.cli.terminal import note, progress_bar, say, say_json
from audit_core.cli.words import about, describe, limits, sentence, verdict
from audit_core.integrity.verify import Finding, Result
from audit_core.noting import not_recorded
from audit_core.trail import AuditTrail

EXIT_CODES = {Result.OK: 0, Result.FAILED: 1, Result.UNANCHORED: 3}

Key = Annotated[str | None, typer.Option(metavar="KEY|FILE", help="The verifier key, or a file that holds it.")]
Checkpoints = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="A signed checkpoint that was kept elsewhere; repeatable.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", parser=moment, help="When this copy was made: anchors may have newer checkpoints."),
]
MaxAge = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        min=0,
        max=1e6,
        help="How old the newest anchored checkpoint, or event, may be: is it alive?",
    ),
]
State = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Go on from what was verified last, which is remembered here.")
]
OnFailure = Annotated[
    str | None, typer.Option(metavar="COMMAND", help="Run it when verification fails, with the result as JSON.")
]
Webhook = Annotated[
    str | None, typer.Option(metavar="URL", help="POST the result as JSON to it when verification fails.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(verify)


def verify(
    context: typer.Context,
    *,
    url: Url = None,
    key: Key = None,
    checkpoint: Checkpoints = None,
    anchor: Anchors = None,
    archive: Archives = None,
    as_of: AsOf = None,
    max_age: MaxAge = None,
    state: State = None,
    full: Annotated[bool, typer.Option("--full", help="With --state: check all events all the same.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Again and again, until SIGTERM or Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="With --follow: how often.")] = 300.0,
    on_failure: OnFailure = None,
    webhook: Webhook = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="How many processes read and hash.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check the whole trail. Exit code 0 OK, 1 FAILED, 3 UNANCHORED, 2 could not be verified."""
    alarm = Alarm(on_failure, webhook)
    asked: dict[str, Any] = {"anchors": anchor, "jobs": jobs}
    asked["max_age"] = None if max_age is None else timedelta(hours=max_age)
    if context.obj.is_about_several:
        from audit_core.cli.roof import checking_trails  # which says what is found as this module does

        refuse_of_one(key=key, checkpoint=checkpoint, as_of=as_of, state=state)
        checking = checking_trails(context, alarm, as_json=as_json, **asked)
    else:
        asked |= {"key": None if key is None else read_key(key), "as_of": as_of, "whole": full}
        asked["known"] = [read_checkpoint(path) for path in checkpoint or ()]
        opened = open_trail(context, url, archives=archive or ())
        checking = _checking(opened, alarm, state, remembers=follow, as_json=as_json, **asked)
    with checking as check:
        code = _follow(check, alarm, every) if follow else _check_once(check, alarm)
    raise typer.Exit(code)


@contextmanager
def _checking(
    opened: AbstractContextManager[AuditTrail],
    alarm: Alarm,
    state: Path | None,
    *,
    remembers: bool,
    as_json: bool,
    **asked: Any,
) -> Iterator[Callable[[], int]]:
    """What verifies one trail, as it is ``asked``, says what was found, and returns the exit code."""
    with opened as trail:
        memory = usual_place(trail.url) if remembers and state is None else state

        def check() -> int:
            seen = None if memory is None else recall(memory)
            with progress_bar("Verifying") as progress:
                found = trail.verify(progress=progress, seen=seen, **asked)
            if why := trail.why_not_noted():
                note(not_recorded(why), "yellow")
            if memory is not None and found.seen is not None:
                remember(memory, found.seen)
            return _tell(found, trail, alarm, as_json=as_json)

        yield check


def _check_once(check: Callable[[], int], alarm: Alarm) -> int:
    try:
        return check()
    except Exception as error:
        alarm.ring({"result": "unknown", "exit_code": 2, "reason": sentence(error)})
        raise


def _follow(check: Callable[[], int], alarm: Alarm, every: float) -> int:
    """One after another, whatever each comes to; the exit code of the last."""
    code = 2
    with until_told() as told:
        while not told.is_set():
            try:
                code = _check_once(check, alarm)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody has to go on looking
                code = 2
                note(f"The trail could not be verified: {sentence(error)}", "red")
            told.wait(every)
    return code


def _tell(found: Verification, trail: AuditTrail, alarm: Alarm, *, as_json: bool) -> int:
    if as_json:
        say_json(as_json_of(found, trail))
    else:
        say_found(found, trail)
    if found.result is Result.FAILED:
        alarm.ring(as_json_of(found, trail))
    else:
        alarm.rest()
    return EXIT_CODES[found.result]


def say_found(found: Verification, trail: AuditTrail) -> None:
    """What was found, in sentences."""
    grouped = group(found.findings, trail)
    for text in sentences(grouped, trail):
        say(text, "red")
    for text in sentences(group(found.warnings, trail), trail):
        say(f"Warning: {text}", "yellow")
    text, style = verdict(found)
    say(text, style)
    if plainly := summary(found, grouped):
        say(plainly, style)
    for line in [*about(found), *limits(found, _count_waiting(trail))]:
        say(f"  {line}")


def as_json_of(found: Verification, trail: AuditTrail) -> dict[str, Any]:
    """The same for a program."""
    waiting = _count_waiting(trail)
    return {
        "result": found.result.value,
        "exit_code": EXIT_CODES[found.result],
        "origin": found.origin,
        "keys": [str(key) for key in found.keys],
        "size": found.size,
        "start": found.start,
        "anchored": found.anchored,
        "pinned": found.pinned,
        "waiting": waiting,
        "by_hash_alone": [one._asdict() for one in found.unread],
        "findings": [_as_dict(finding, trail) for finding in found.findings],
        "warnings": [_as_dict(finding, trail) for finding in found.warnings],
        "verdict": verdict(found)[0],
        "summary": summary(found, group(found.findings, trail)),
        "limits": limits(found, waiting),
    }


def _count_waiting(trail: AuditTrail) -> int:
    return sum(1 for _ in trail.waiting())


def _as_dict(finding: Finding, trail: AuditTrail) -> dict[str, Any]:
    text, event_id = describe(finding, trail)
    return {**asdict(finding), "event_id": event_id, "text": text}
