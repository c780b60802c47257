"""``verify``, ``status`` and ``anchor`` of several chains under one roof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import typer

from audit_core.chain.verification import Verification
from audit_core.cli.alarm import Alarm
from audit_core.cli.terminal import note, say, say_json
from audit_core.cli.trails import ROOF, each, open_trails
from audit_core.cli.verify import EXIT_CODES, as_json_of, say_found
from audit_core.cli.words import sentence
from audit_core.errors import AuditError
from audit_core.integrity.verify import Finding, Result
from audit_core.noting import not_recorded
from audit_core.trails import AuditTrails, TrailsVerification

_SENTENCES = {
    "chain.missing": "The roof has checkpoints of {expected}, and none of the chains is it: it was removed, emptied or "
    "begun anew.",
    "chain.twice": "One chain stands there under two names: {got}.",
}


@contextmanager
def checking_trails(
    context: typer.Context, alarm: Alarm, *, as_json: bool, **asked: Any
) -> Iterator[Callable[[], int]]:
    """What verifies all, as it is ``asked``, says what was found, and returns the exit code."""
    with open_trails(context) as (trails, said):

        def check() -> int:
            found = trails.verify(said.roof_key, said.keys, **asked)
            if why := next(filter(None, (trail.why_not_noted() for _, trail in each(trails))), None):
                note(not_recorded(why), "yellow")
            return _tell(found, trails, alarm, as_json=as_json)

        yield check


def _tell(found: TrailsVerification, trails: AuditTrails, alarm: Alarm, *, as_json: bool) -> int:
    told = _as_json(found, trails)
    if as_json:
        say_json(told)
    else:
        _say(found, trails)
    if found.result is Result.FAILED:
        alarm.ring(told)
    elif found.result is not None:
        alarm.rest()
    return int(told["exit_code"])


def _say(found: TrailsVerification, trails: AuditTrails) -> None:
    opened = dict(each(trails))
    for name, one in _each_found(found):
        say(f"{name}:", "bold")
        if isinstance(one, Verification):
            say_found(one, opened[name])
        else:
            say(f"Could not be verified: {sentence(one)}", "red")
    for finding in found.findings:
        say(_in_words(finding), "red")
    say(f"All together: {found.result.value.upper() if found.result else 'could not be verified'}.", "bold")


def _as_json(found: TrailsVerification, trails: AuditTrails) -> dict[str, Any]:
    opened = dict(each(trails))
    told = {
        name: as_json_of(one, opened[name]) if isinstance(one, Verification) else {"trouble": sentence(one)}
        for name, one in _each_found(found)
    }
    return {
        "result": found.result.value if found.result else "unknown",
        "exit_code": EXIT_CODES[found.result] if found.result else 2,
        "roof": told.pop(ROOF),
        "chains": told,
        "findings": [{**asdict(finding), "text": _in_words(finding)} for finding in found.findings],
    }


def _each_found(found: TrailsVerification) -> Iterator[tuple[str, Verification | AuditError]]:
    yield ROOF, found.roof
    yield from found.chains.items()


def _in_words(finding: Finding) -> str:
    return _SENTENCES[finding.kind].format(expected=finding.expected, got=finding.got)


def anchor_trails(trails: AuditTrails) -> int:
    """Put the chains' checkpoints into the roof, and the roof's into its anchors; the exit code."""
    said = trails.anchor_now()
    for name, trouble in said.items():
        if trouble is None:
            say(f"{name}: anchored.")
    return 2 if any(said.values()) else 0  # each was told when it happened
