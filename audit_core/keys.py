"""Where the signing key and the hash key come from.

An attacker who holds the signing key can seal what was not anchored yet; who holds only the database cannot.
An attacker who holds the hash key can guess hashed values and session ids; nothing can be forged with it.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_core.errors import ConfigurationError
from audit_core.process.disk import sync_folder, write_all

KEY_BYTES = 32
SIGNING_KEY = "signing.key"  # the name of its file in the state directory
HASH_KEY = "hash.key"
logger = logging.getLogger("audit_core")

_warned: set[Path] = set()  # key files that others can use: each is told of once


class LocalSigner:
    """An Ed25519 key (RFC 8032) held in this process's memory."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return self._key.sign(message)


def load_signer(environ: Mapping[str, str] = os.environ) -> LocalSigner:
    """The key in ``AUDIT_KEY`` (base64 of 32 bytes, or a file's path), else one made at first use.

    Raises ConfigurationError when the key or its file cannot be used.
    """
    return LocalSigner(_load("AUDIT_KEY", SIGNING_KEY, environ))


def find_signer(environ: Mapping[str, str] = os.environ) -> LocalSigner | None:
    """The key that ``load_signer`` would load; None where it would have to make one."""
    if environ.get("AUDIT_KEY", "").strip() or _has_signing_key(environ):
        return load_signer(environ)
    return None


def signer_place(environ: Mapping[str, str] = os.environ) -> str | None:
    """Where the key that ``find_signer`` finds lies: the path of a file, or ``AUDIT_KEY``; None where there is none."""
    if setting := environ.get("AUDIT_KEY", "").strip():
        return "AUDIT_KEY" if _try_decode(setting) is not None else setting
    return str(state_directory(environ) / SIGNING_KEY) if _has_signing_key(environ) else None


def _has_signing_key(environ: Mapping[str, str]) -> bool:
    try:
        return (state_directory(environ) / SIGNING_KEY).exists()
    except (OSError, ConfigurationError):  # somebody else's home directory, or none
        return False


def load_hash_key(environ: Mapping[str, str] = os.environ) -> bytes:
    """The 32 bytes that key hashed values and session ids: ``AUDIT_HASH_KEY``, else made at first use."""
    return _load("AUDIT_HASH_KEY", HASH_KEY, environ)


def find_hash_key(environ: Mapping[str, str] = os.environ) -> bytes | None:
    """The key that ``load_hash_key`` would load; None where it would have to make one, or cannot."""
    with suppress(OSError, ConfigurationError):
        if environ.get("AUDIT_HASH_KEY", "").strip() or (state_directory(environ) / HASH_KEY).exists():
            return load_hash_key(environ)
    return None


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's state directory (XDG base directories), never beside the database.

    Raises ConfigurationError for a user without a home, such as the user ids that containers are run with.
    """
    if home := environ.get("AUDIT_STATE_DIR"):
        return Path(home)
    try:
        if os.name == "nt":
            return Path(environ.get("LOCALAPPDATA") or Path.home()) / "audit-core"
        return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "audit-core"
    except RuntimeError:
        raise ConfigurationError(
            "This user has no home directory, in which keys would lie: set AUDIT_STATE_DIR to a folder that this user "
            "can write."
        ) from None


def generate_key() -> str:
    """A new key, as ``AUDIT_KEY`` takes it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _load(variable: str, file_name: str, environ: Mapping[str, str]) -> bytes:
    if not (setting := environ.get(variable, "").strip()):
        return decode_key(read_or_make(state_directory(environ) / file_name), f"{variable}'s file {file_name}")
    if (key := _try_decode(setting)) is not None:
        return key
    try:
        return decode_key(_read(Path(setting)), f"the file that {variable} names")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{variable} is neither a key (base64 of 32 bytes) nor a file that can be read "
            f"({type(error).__name__}): correct the path, or, for a new trail, set it to what `audit keygen` prints."
        ) from None


def names_a_file(setting: str) -> bool:
    """Whether what AUDIT_KEY holds is a path, and not the key itself."""
    return _try_decode(setting) is None


def decode_key(text: bytes, where: str) -> bytes:
    """The 32 bytes of a key. Raises ConfigurationError."""
    if (key := _try_decode(text.strip())) is None:
        raise ConfigurationError(f"There is no key in {where}: put there what `audit keygen` prints.")
    return key


def _try_decode(text: str | bytes) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def read_or_make(path: Path) -> bytes:
    """The file's content; where there is none, a new key, complete before it is visible to another process."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        return _read(path)
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path} cannot be read or made ({error}): set AUDIT_KEY and AUDIT_HASH_KEY, "
            "or AUDIT_STATE_DIR to a folder that this user can write."
        ) from None


def _make(path: Path) -> None:
    """A crash here leaves no key or a whole one: what is sealed with a key that is lost again could not go on."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(fd, generate_key().encode() + b"\n")
        finally:
            os.close(fd)
        with suppress(FileExistsError):  # another process was first: then its key is the key
            os.link(draft, path)
            if path.name == SIGNING_KEY:
                logger.warning("Made a signing key in %s: keep a copy, without it nothing more can be sealed.", path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    if path not in _warned and os.name == "posix" and path.stat().st_mode & 0o077:
        _warned.add(path)
        logger.warning("Other users can use the key in %s: `chmod 600` it.", path)
    return path.read_bytes()
