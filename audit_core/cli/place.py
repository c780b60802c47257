"""Which trail a command is about, and the files that it is given."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_core.cli.terminal import logged_notes
from audit_core.coverage import Gap
from audit_core.errors import ConfigurationError, Cures, IntegrityError, QueueUnavailableError
from audit_core.event import ActorType
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import VerifierKey, parse_note
from audit_core.process.account import account
from audit_core.redaction import Redactor
from audit_core.trail import AuditTrail
from audit_core.triggers import Known
from audit_core.urls import open_url, without_password

_PRIVATE_BYTES = 32  # of an Ed25519 key, as AUDIT_KEY takes it
EXAMPLES = "postgresql://host/database, or sqlite:///clinic.db"
WHICH = f"Which trail? Give its URL with --url, or set AUDIT_URL: {EXAMPLES}."
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="AUDIT_URL", metavar="URL", help=f"The trail: {EXAMPLES}.", show_envvar=True),
]
Queue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        envvar="AUDIT_QUEUE",
        metavar="URL",
        help="The queue that it drains: redis://host:6379/0, or kafka://host:9092/topic.",
        show_envvar=True,
    ),
]
Anchors = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        envvar="AUDIT_ANCHORS",
        metavar="URL",
        help="Where checkpoints are kept outside of the database; repeatable.",
        show_envvar=True,
    ),
]
Gaps = Callable[[], Iterable[Gap]]
Archives = Annotated[
    list[str] | None,
    typer.Option(
        "--archive",
        envvar="AUDIT_ARCHIVES",
        metavar="URL",
        help="Where archived months lie now, if not where they were written to; repeatable.",
        show_envvar=True,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file instead of stdout.")]


@dataclass(slots=True)
class Place:
    """What every command knows before it begins."""

    trail: AuditTrail | None = None
    known: Known | None = None
    url: str | None = None
    outboxes: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    queue: str | None = None
    trails: Path | None = None  # the file that names several chains
    chain: str | None = None  # the one of them that it is about
    gaps: Gaps | None = None  # what the application's own framework finds not covered

    @property
    def is_about_several(self) -> bool:
        """Whether it is about all chains that a file names."""
        return self.trails is not None and self.chain is None


def open_trail(
    context: typer.Context,
    url: str | None,
    *,
    create: bool = False,
    origin: str | None = None,
    anchors: Sequence[str] = (),
    archives: Sequence[str] = (),
) -> AbstractContextManager[AuditTrail]:
    """The trail of this command; what is not there is only made with ``create``.

    ``anchors`` are what it anchors to, if not to its own. Whoever runs it reads or changes the trail itself: PCI DSS
    10.2.1.3 asks who that was.
    """
    place: Place = context.obj
    if place.trails is not None:
        from audit_core.cli.trails import open_chain

        return open_chain(context)
    refuse_another(context, url)
    if not is_typed(context, "archive"):  # what is typed goes before AUDIT_ARCHIVES, wherever it stands
        archives = place.archives or archives
    if place.trail is not None:
        return _of_project(place.trail, anchors, archives, create=create)
    if not (url := _asked(context, url)):
        raise ConfigurationError(WHICH)
    if url.startswith("memory:"):
        raise ConfigurationError("A trail in memory is in its own process only: give the URL of one in a database.")
    return _at(url, place, create=create, origin=origin, anchors=anchors, archives=archives)


@contextmanager
def _of_project(
    trail: AuditTrail, anchors: Sequence[str], archives: Sequence[str], *, create: bool
) -> Iterator[AuditTrail]:
    """That of the application itself, which goes on with it."""
    if create:
        trail.create()
    acting = trail.actor(account(), type=ActorType.ADMIN)
    with acting, trail.anchoring.to(anchors), trail.chain.shelf.looking_in(archives):
        yield trail


@contextmanager
def _at(url: str, place: Place, *, create: bool, **options: Any) -> Iterator[AuditTrail]:
    keyless = Redactor()  # what a command records holds nothing to hash, and reading makes no key
    with logged_notes():
        trail = AuditTrail(
            url, outbox=place.outboxes, queue=place.queue, redactor=keyless, create=False, lifecycle=False, **options
        )
        with trail, trail.actor(account(), type=ActorType.ADMIN):
            if create:
                trail.create()
            _check_outboxes(trail, place.outboxes)
            _check_queue(trail)
            yield trail


def chosen_url(context: typer.Context, url: str | None) -> str:
    """The trail's URL. Raises ConfigurationError where none is given."""
    place: Place = context.obj
    refuse_another(context, url)
    if chosen := _asked(context, url) or (place.trail and place.trail.url):
        return chosen
    raise ConfigurationError(WHICH)


def _asked(context: typer.Context, url: str | None) -> str | None:
    """What is typed after the command, else what is typed before it, else AUDIT_URL."""
    place: Place = context.obj
    return url if is_typed(context) else place.url or url


def refuse_another(context: typer.Context, url: str | None) -> None:
    """To answer for another trail than the one that was asked for would be the worst of answers."""
    place: Place = context.obj
    if place.trail is None and place.gaps is None:
        return
    typed = [name for name in ("outbox", "queue") if is_typed(context.find_root(), name)]
    if typed or _is_another(context, place, _asked(context, url)):
        named = f"--{typed[0]} names another place" if typed else "--url or AUDIT_URL names another one"
        raise ConfigurationError(
            f"This command is about the trail of this project, and {named}: for that, use `audit --url URL`."
        )


def refuse_of_one(**options: object) -> None:
    """With --trails, what is about one chain. Raises ConfigurationError."""
    if name := next((name for name, value in options.items() if value), None):
        raise ConfigurationError(f"--{name.replace('_', '-')} is about one trail, and --trails names several.")


def _is_another(context: typer.Context, place: Place, asked: str | None) -> bool:
    if place.trail is None:  # there is none yet to compare with, and AUDIT_URL may be the project's own setting
        return is_typed(context) or is_typed(context.find_root())
    return bool(asked) and open_url(str(asked)).directory != open_url(place.trail.url).directory


def is_typed(context: Any, name: str = "url") -> bool:
    """Whether this option was typed, and does not come from the environment."""
    source = context and context.get_parameter_source(name)
    return bool(source) and source.name == "COMMANDLINE"


def _check_outboxes(trail: AuditTrail, urls: Sequence[str]) -> None:
    """A misspelt outbox would look as if nothing waited in it."""
    own = len(trail.outboxes) - len(urls)  # none where the trail lies in a bucket
    for url, outbox in zip(urls, trail.outboxes[own:], strict=True):
        if not outbox.is_created():
            name = without_password(url)
            raise ConfigurationError(f"{name} has no outbox: correct --outbox, or {Cures.make_tables}.")


def _check_queue(trail: AuditTrail) -> None:
    """The same for a queue that nothing was ever read of; one that is away just now may be right."""
    if trail.queue is None or trail.sealer.drain is None:
        return
    with suppress(QueueUnavailableError):
        if not trail.queue.is_created() and trail.sealer.drain.place() is None:
            raise ConfigurationError(f"There is no queue {trail.queue.name}: correct --queue, or {Cures.make_tables}.")


def read_key(text: str) -> VerifierKey:
    """A verifier key, or the file that holds it.

    Raises IntegrityError if it is none, ConfigurationError if it is empty, neither of the two, or a private key.
    """
    if not text.strip():
        raise ConfigurationError("The verifier key is empty: give the key after --key, or a file that holds it.")
    key = read_file(Path(text)) if (is_file := _is_file(text)) else text
    if _is_private(key.strip()):
        raise ConfigurationError(
            "This is a private key, and nobody but the trail's operator may have it. What verifies is the verifier "
            "key, which `audit keygen --verifier` prints."
        )
    if "+" not in key:
        what = (
            "is a file without a verifier key" if is_file else "is neither a verifier key nor a file that can be read"
        )
        raise ConfigurationError(f"--key {text[:200].strip()} {what}.")
    return VerifierKey.parse(key.strip())


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a character that none has
        return False


def _is_private(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == _PRIVATE_BYTES
    except ValueError:
        return False


def read_checkpoint(path: Path) -> str:
    """The signed note in a file. Raises IntegrityError when it is none."""
    text = read_file(path)
    try:
        Checkpoint.parse(parse_note(text)[0])
    except IntegrityError as error:
        raise IntegrityError(f"The file {path} is not what `audit checkpoint` prints: {error}.") from None
    return text


def read_file(path: Path) -> str:
    """The text of a file, without the mark that Windows puts before it. Raises OSError; ConfigurationError: no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"The file {path} is not a text file: is it the right one?") from None
