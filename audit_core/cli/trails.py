"""The file of ``audit --trails FILE``: several chains under one roof."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from audit_core.cli.place import Place, is_typed, open_trail, read_file, read_key
from audit_core.cli.terminal import logged_notes
from audit_core.errors import ConfigurationError, nearest
from audit_core.event import ActorType
from audit_core.integrity.note import VerifierKey
from audit_core.process.account import account
from audit_core.redaction import Redactor
from audit_core.trail import AuditTrail
from audit_core.trails import AuditTrails

ROOF = "the roof"
_KNOWN = {"roof": str, "anchors": list, "archives": list, "chains": dict, "keys": dict, "roof_key": str}
_TABLES = ("chains", "keys")
_FORM = 'roof = "URL", a table [chains] with a name and a URL in each line, and anchors = ["URL"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofed:
    """What the file says."""

    roof: str
    chains: Mapping[str, str]
    anchors: Sequence[str] = ()
    archives: Sequence[str] = ()
    roof_key: VerifierKey | None = None
    keys: Mapping[str, VerifierKey] = field(default_factory=dict)


def read_trails(path: Path) -> Roofed:
    """Raises ConfigurationError for a file that is none of these, OSError where there is none."""
    try:
        said = tomllib.loads(read_file(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML ({error}): it has {_FORM}.") from None
    for name, value in said.items():
        if name not in _KNOWN:
            raise ConfigurationError(f"{path} has {_FORM}, and not {name!r}.{nearest(name, _KNOWN)}")
        if not isinstance(value, _KNOWN[name]):
            raise ConfigurationError(f"In {path} {name!r} is of another kind: it has {_FORM}.")
    lists, tables = (said.get(name, ()) for name in ("anchors", "archives")), (said.get(name, {}) for name in _TABLES)
    texts = [text for some in (*lists, *(table.values() for table in tables)) for text in some]
    if "roof" not in said or not said.get("chains") or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"{path} is not whole: it has {_FORM}.")
    if strange := said.get("keys", {}).keys() - said["chains"].keys():
        name = min(strange)
        raise ConfigurationError(f"{path} has a key of {name!r}, which is no chain.{nearest(name, said['chains'])}")
    return Roofed(
        roof=said["roof"],
        chains=said["chains"],
        anchors=said.get("anchors", ()),
        archives=said.get("archives", ()),
        roof_key=read_key(said["roof_key"]) if "roof_key" in said else None,
        keys={name: read_key(key) for name, key in said.get("keys", {}).items()},
    )


@contextmanager
def open_trails(context: typer.Context) -> Iterator[tuple[AuditTrails, Roofed]]:
    """Those of this command; nothing is made that is not there."""
    place: Place = context.obj
    assert place.trails is not None  # noqa: S101 - whoever calls has looked
    if place.trail is not None or place.outboxes or place.queue:
        raise ConfigurationError("--trails names all: leave out --outbox and --queue, and use `audit`.")
    for name, more in (("url", ""), ("archive", ', and write archives = ["URL"] into the file')):
        if is_typed(context, name) or is_typed(context.find_root(), name):  # to answer for another trail would be worst
            raise ConfigurationError(f"--trails names all: leave out --{name}{more}.")
    said = read_trails(place.trails)
    with logged_notes(), AuditTrails(
        said.chains, roof=said.roof, anchors=said.anchors, archives=said.archives,
        create=False, lifecycle=False, redactor=Redactor(),
    ) as trails, trails.roof.actor(account(), type=ActorType.ADMIN):  # fmt: skip
        yield trails, said


@contextmanager
def open_chain(context: typer.Context) -> Iterator[AuditTrail]:
    """The chain that ``--chain`` names, whose anchor is the roof."""
    place: Place = context.obj
    if place.chain is None:
        raise ConfigurationError("This command is about one trail: say which of those in --trails, with --chain NAME.")
    with open_trails(context) as (trails, _):
        yield trails.of(place.chain)


@contextmanager
def open_all(context: typer.Context, url: str | None) -> Iterator[AuditTrail | AuditTrails]:
    """One trail, or all that ``--trails`` names: for what reads."""
    if context.obj.is_about_several:
        with open_trails(context) as (trails, _):
            yield trails
    else:
        with open_trail(context, url) as trail:
            yield trail


def each(trails: AuditTrails) -> Iterator[tuple[str, AuditTrail]]:
    """The roof, then the chains."""
    yield ROOF, trails.roof
    yield from trails.chains.items()
