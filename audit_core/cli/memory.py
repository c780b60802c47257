"""What a verifier remembers from one verification to the next: a file of his own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from audit_core.chain.seen import Seen
from audit_core.errors import ConfigurationError
from audit_core.keys import state_directory
from audit_core.process.disk import write_file
from audit_core.urls import without_password


def usual_place(url: str) -> Path:
    """Where it lies unless it is said: one file for each trail, in the user's state directory."""
    kind, slashes, path = url.partition(":///")
    place = f"{kind}{slashes}{Path(path).resolve()}" if kind == "sqlite" else without_password(url)
    name = sha256(place.encode()).hexdigest()[:16]
    return state_directory() / "verified" / f"{name}.json"


def recall(path: Path) -> Seen | None:
    """What was seen last; None the first time. Raises OSError, and ConfigurationError for a file that is not ours."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        return Seen.parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path} cannot be gone on from: {error}. Somebody has changed it: remove it, to begin with all events."
        ) from None


def remember(path: Path, seen: Seen) -> None:
    """A crash here leaves what was remembered before, or this. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, seen.to_json().encode(), 0o600)
