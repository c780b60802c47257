"""``manage.py audit ...`` is the ``audit`` command line with the project's trail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from audit_core import AuditTrail
from audit_core.errors import AuditError
from audit_django.databases import database_of
from audit_django.trail import get_trail, layout, make_trail, under_test


class Command(BaseCommand):
    """Passes everything on, ``--help`` too."""

    help = (
        "The trail: init, status, seal, anchor, verify, events, show, checkpoint, prove, check-proof, export, "
        "check-bundle, report, keygen, key, acknowledge-restore, archive, purge, hold, erase, partitions, doctor, "
        "triggers, check."
    )
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """From the command line: Django has seen to its own two options already."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--settings")
        parser.add_argument("--pythonpath")
        _, arguments = parser.parse_known_args(argv[2:])
        try:
            sys.exit(_run(arguments))
        except (AuditError, CommandError) as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(2)

    def add_arguments(self, parser: CommandParser) -> None:
        """For ``call_command``."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """From ``call_command("audit", "verify")``."""
        if code := _run(options["arguments"]):
            raise CommandError(f"audit exited with {code}", returncode=code)


def _run(arguments: Sequence[str]) -> int:
    try:
        from audit_core.cli import main
    except ImportError as error:
        raise CommandError(f'The command line is an extra: pip install "audit-core[cli]" ({error}).') from error
    from audit_django.coverage import gaps

    if arguments[:1] == ["check"]:  # which tells of settings that no trail can be made from
        return main(list(arguments), gaps=gaps)
    with _trail() as trail:
        if arguments[:1] == ["triggers"]:
            return _run_triggers(arguments, trail)
        return main(list(arguments), trail=trail)


def _run_triggers(arguments: Sequence[str], trail: AuditTrail) -> int:
    """With ``--database``, as Django's own commands have it, and with what the models say of their tables."""
    from audit_core.cli import main
    from audit_django.triggers.coverage import forget_coverage
    from audit_django.triggers.known import known_in

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--database", default=layout().home or DEFAULT_DB_ALIAS)
    chosen, rest = parser.parse_known_args(list(arguments))
    if chosen.database not in connections.settings:
        raise CommandError(f"There is no database {chosen.database!r} in DATABASES.")
    says_where = chosen.database == layout().home or any(one.partition("=")[0] == "--url" for one in rest)
    if not says_where:  # a database of the project, which is not the trail's own
        rest += [f"--url={database_of(chosen.database).url}"] if len(rest) > 1 else []
    try:
        return main(rest, trail=trail if says_where else None, known=known_in(chosen.database))
    finally:
        forget_coverage()  # of this process, as tests run a command


@contextmanager
def _trail() -> Iterator[AuditTrail]:
    """The project's. One that is not there yet is only made by ``init``, and not by looking.

    A command is no application that starts and stops: it has a trail of its own, except in a test.
    """
    if under_test():
        yield _trail_under_test()
        return
    with make_trail(layout(), lifecycle=False) as trail:
        yield trail


def _trail_under_test() -> AuditTrail:
    trail = make_trail(layout())
    with suppress(AuditError):  # the command meets it too, and tells of it
        if trail.store.is_created():
            trail.close()
            return get_trail()
    return trail
