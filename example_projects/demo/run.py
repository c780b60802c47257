"""A working day in a clinic, what its audit trail says of it, and what happens when somebody edits that."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from audit_core import AuditTrail
from audit_core.errors import AuditError
from example_projects.demo import chapters
from example_projects.demo.chapters import Place
from example_projects.demo.client import Day, Ledger, TooBusyError, UnexpectedAnswerError
from example_projects.demo.server import Server, ServerError
from example_projects.demo.show import Show

REQUESTS = 800
SETTINGS = ("AUDIT_STATE_DIR", "AUDIT_KEY", "AUDIT_HASH_KEY")


def main(arguments: Sequence[str], show: Show | None = None) -> int:
    """Run the demonstration; 0 only if everything came out as it must."""
    options = _parse(arguments)
    show = show or Show()
    with _folder(options.keep) as folder, _keys_in(folder / "state"):
        try:
            demonstrate(show, options.clinic, options.requests, Place(folder))
        except ServerError as error:
            show.check("the server starts", holds=False, why_not=str(error))
        except (TooBusyError, AuditError) as error:
            return show.break_off(str(error))
    if options.keep:
        show.say("\nTo look on:")
        show.command(["export", f"AUDIT_STATE_DIR={folder}/state", f"AUDIT_URL={Place(folder).url}"])
    return show.verdict()


def demonstrate(show: Show, clinic: str, requests: int, place: Place) -> None:
    password = secrets.token_urlsafe(12)
    settings = {"CLINIC_DATABASE": place.url, "CLINIC_PASSWORD": password}
    with Server(clinic, place.folder / "server.log", settings) as server:
        day = Day(server.url, password, Ledger(secrets={password}))
        try:
            audit_day(show, clinic, day, requests, place)
            chapters.stop_server(show, server, place)
        except UnexpectedAnswerError:
            show.check("the day begins", holds=False, why_not=day.ledger.unexpected[-1])
        if show.failed:
            show.say(f"\nThe end of the server's log:\n{server.said()}")
            return
    chapters.attack(show, place)


def audit_day(show: Show, clinic: str, day: Day, requests: int, place: Place) -> None:
    began = datetime.now(UTC)
    ward = chapters.play_day(show, clinic, day, requests)
    with AuditTrail(place.url, create=False, lifecycle=False) as trail:
        chapters.count_events(show, trail, day.ledger)
        chapters.verify_live(show, place)
        chapters.report_patient(show, trail, day.ledger, str(ward.known_best), began)
        chapters.report_failures(show, trail, day.ledger, began)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("clinic", nargs="?", default="fastapi", choices=["fastapi", "flask", "django"])
    parser.add_argument("--asgi", action="store_true", help="Django on uvicorn instead of waitress")
    parser.add_argument("--requests", type=int, default=REQUESTS, metavar="N", help="how many at least (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the clinic's database and its keys there")
    options = parser.parse_args(arguments)
    if options.asgi and options.clinic != "django":
        parser.error("--asgi goes with django")
    if options.asgi:
        options.clinic = "django --asgi"
    return options


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """A folder for one demonstration."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
    else:
        with TemporaryDirectory(prefix="audit-demo-") as folder:
            yield Path(folder)


@contextmanager
def _keys_in(folder: Path) -> Iterator[None]:
    """Keys of this demonstration alone, for this process and those that it starts."""
    before = {name: os.environ.pop(name) for name in SETTINGS if name in os.environ}
    os.environ["AUDIT_STATE_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["AUDIT_STATE_DIR"]
        os.environ.update(before)
