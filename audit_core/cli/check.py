"""``audit check``: what the trail does not cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import typer

from audit_core.cli.application import AuditorPath, known_by, load_auditor
from audit_core.cli.place import Place, Url, open_trail, refuse_another
from audit_core.cli.terminal import say
from audit_core.coverage import Gap, gaps_of
from audit_core.trail import AuditTrail
from audit_core.triggers import Known

NOTHING_BY_THE_DATABASE = (
    "Nothing is left out by the database; what the application leaves out is told with --auditor MODULE:NAME."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(check)


def check(
    context: typer.Context,
    *,
    url: Url = None,
    auditor: AuditorPath = None,
) -> None:
    """Say what the trail does not cover. Exit code 1 where that is not as it should be."""
    place: Place = context.obj
    refuse_another(context, url)
    if place.gaps is not None:
        _say(place.gaps())
    elif auditor is not None:
        found = load_auditor(auditor)
        from audit_core.orm.sqlalchemy.coverage import gaps

        place.trail = found.trail
        refuse_another(context, url)
        _say([*_of_databases(found.trail, known_by(found)), *gaps(found)])
    else:
        with open_trail(context, url) as trail:
            _say(_of_databases(trail), nothing=NOTHING_BY_THE_DATABASE)


def _of_databases(trail: AuditTrail, known: Known | None = None) -> Iterator[Gap]:
    for outbox in trail.outboxes:
        yield from gaps_of(outbox, known)


def _say(gaps: Iterable[Gap], nothing: str = "Nothing is left out.") -> None:
    found = sorted(gaps, key=lambda gap: not gap.is_problem)
    for gap in found:
        say(f"{'WRONG' if gap.is_problem else 'note':<6}{gap.text}", "red" if gap.is_problem else "")
    if not found:
        say(nothing, "green")
    if any(gap.is_problem for gap in found):
        raise typer.Exit(1)
