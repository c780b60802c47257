"""What lies beside the file of the signing key while it is replaced, and afterwards.

``signing.key.next`` is the key that a rotation has made; it takes the place of ``signing.key`` once the event that
names it is committed. The one before stays as ``signing.key.`` and eight hex digits: a backup from before the rotation
needs it, and so does another trail of the same user.

An attacker who can write the folder of the key can deny service. One who can read it has the key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from audit_core.errors import ConfigurationError
from audit_core.keys import SIGNING_KEY, LocalSigner, decode_key, names_a_file, read_or_make, state_directory
from audit_core.process.disk import sync_folder

_EARLIER = re.compile(r"[0-9a-f]{8}")


def key_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file of the signing key, there or not; None where AUDIT_KEY is the key itself."""
    if not (setting := environ.get("AUDIT_KEY", "").strip()):
        return state_directory(environ) / SIGNING_KEY
    return Path(setting) if names_a_file(setting) else None


def next_file(path: Path) -> Path:
    """Where the new key lies until it is named."""
    return path.with_name(f"{path.name}.next")


def make_key(path: Path) -> LocalSigner:
    """The key in this file; a new one where there is none. Raises ConfigurationError."""
    return LocalSigner(decode_key(read_or_make(path), str(path)))


def find_key(path: Path) -> LocalSigner | None:
    """The key in this file, if there is one that can be read."""
    try:
        return LocalSigner(decode_key(path.read_bytes(), str(path)))
    except (OSError, ConfigurationError):
        return None


def beside(path: Path) -> list[tuple[Path, LocalSigner]]:
    """The next key and the earlier ones, as far as there are any."""
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return []
    earlier = [path.with_name(name) for name in names if _EARLIER.fullmatch(name.removeprefix(f"{path.name}."))]
    found = [(one, find_key(one)) for one in (next_file(path), *earlier)]
    return [(one, key) for one, key in found if key is not None]


def put_in_place(path: Path) -> Path | None:
    """Let the next key be the key; where the one before lies from now on, if there was one. Raises OSError.

    A crash leaves the next one where it was, or in its place: then nothing is left to do.
    """
    kept = None
    if not next_file(path).exists():
        raise FileNotFoundError(next_file(path))
    if (before := find_key(path)) is not None:
        kept = path.with_name(f"{path.name}.{sha256(before.public_key).hexdigest()[:8]}")
        with suppress(FileExistsError):
            os.link(path, kept)
    next_file(path).replace(path)
    sync_folder(path.parent)
    return kept
