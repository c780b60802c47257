"""From a URL to an anchor."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from urllib.parse import parse_qsl, unquote, urlsplit

from audit_core.anchors import Anchor
from audit_core.anchors.database import DatabaseAnchor, PostgresAnchors, SqliteAnchors
from audit_core.anchors.folder import FolderAnchor
from audit_core.anchors.log import LogAnchor
from audit_core.anchors.web import without_user
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.cosignature import CosignerKey
from audit_core.keys import state_directory
from audit_core.redaction import Redactor

FORMS = (
    "file:///storage/clinic, postgresql://host/database, sqlite:////storage/file.db, log:, "
    "s3://bucket/prefix, tsa+https://host/path?ca=FILE or witness+https://host/path?key=KEY"
)


def open_anchors(anchors: Iterable[str | Anchor]) -> list[Anchor]:
    """Each as it is, or by its URL. Nothing is asked or made yet. Raises ConfigurationError."""
    if isinstance(anchors, str):
        raise ConfigurationError(f"anchors is a list: [{anchors!r}].")
    if not isinstance(anchors, Iterable):
        raise ConfigurationError(f"anchors is a list of URLs, not {anchors!r}.")
    return [open_anchor(one) if isinstance(one, str) else _checked(one) for one in anchors]


def _checked(anchor: Anchor) -> Anchor:
    if not (callable(getattr(anchor, "keep", None)) and callable(getattr(anchor, "kept", None))):
        raise ConfigurationError(f"An anchor is its URL, or has keep() and kept(), unlike {anchor!r}.")
    return anchor


def open_anchor(url: str) -> Anchor:
    """Raises ConfigurationError for a URL that is none of an anchor."""
    scheme, _, rest = url.partition(":")
    if scheme == "log":
        return LogAnchor(rest)
    if scheme in {"postgresql", "postgres"}:
        from audit_core.postgres import PostgresDatabase

        return DatabaseAnchor(PostgresAnchors(PostgresDatabase(url)))
    if scheme == "sqlite" and rest.startswith("///") and rest != "///":
        return DatabaseAnchor(SqliteAnchors(rest.removeprefix("///")))
    if scheme == "file" and (path := unquote(urlsplit(url).path)):
        return FolderAnchor(path)
    if scheme == "s3":
        from audit_core.anchors.bucket import BucketAnchor
        from audit_core.s3 import open_bucket

        return BucketAnchor(*open_bucket(url))
    kind, _, transport = scheme.partition("+")
    if kind in {"tsa", "witness"} and transport in {"http", "https"}:
        return _open_service(kind, url.removeprefix(f"{kind}+"))
    raise ConfigurationError(f"The URL of an anchor is {FORMS}; not {Redactor().text(url)!r}.")


def _open_service(kind: str, url: str) -> Anchor:
    needed = "ca" if kind == "tsa" else "key"
    place, options = split_options(url, {needed, "receipts"})
    if needed not in options:
        what = "the file (PEM) with its root certificate" if kind == "tsa" else "its verifier key, written with %2B"
        raise ConfigurationError(f"The anchor {without_user(place)} says whom to believe: ?{needed}= and {what}.")
    receipts = options.get("receipts") or state_directory() / "receipts" / sha256(place.encode()).hexdigest()[:16]
    if kind == "tsa":
        from audit_core.anchors.timestamp import TimestampAnchor

        return TimestampAnchor(place, options["ca"], FolderAnchor(receipts))
    from audit_core.anchors.witness import WitnessAnchor

    try:
        # A plus sign in a query is a space.
        key = CosignerKey.parse(options["key"].replace(" ", "+"))
    except IntegrityError as error:
        raise ConfigurationError(f"The key of the witness {without_user(place)}: {error}.") from error
    return WitnessAnchor(place, key, FolderAnchor(receipts))


def split_options(url: str, known: set[str]) -> tuple[str, dict[str, str]]:
    """The URL without its query, and that. Raises ConfigurationError for an option that there is not."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - known:
        names = ", ".join(sorted(known))
        raise ConfigurationError(f"An anchor at {parts.scheme}: has the options {names}, and not {min(unknown)}.")
    return parts._replace(query="").geturl(), options
