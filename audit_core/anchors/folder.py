"""A folder on other storage: one file for each checkpoint, never written again.

An attacker who can write the folder can remove files. It protects as far as he cannot: a mount of another host's, a
medium that is written once, a folder that a backup takes away.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import MAX_NOTE_BYTES, parse_note
from audit_core.process.disk import write_file

SUFFIX = ".checkpoint"
_DIGITS = 20
_STEM = re.compile(rf"\d{{{_DIGITS}}}-[0-9a-f]{{16}}", re.ASCII)


class Receipt(NamedTuple):
    """A checkpoint, and what somebody else has signed of it: inside of the note, or apart from it."""

    note: str
    since: datetime
    signed: bytes | None = None  # an RFC 3161 response


class FolderAnchor:
    """Keeps each checkpoint in a file that is named by the size of its tree and the beginning of its root."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()

    @property
    def name(self) -> str:
        return f"the folder {self.folder}"

    def keep(self, note: str, chain: AuditChain) -> None:
        del chain
        path, content = self.folder / name_of(note), note.encode()
        self.put(path, content)
        if self.read(path) != content:
            raise StoreUnavailableError(f"{self.name} holds something else as {path.name}.")

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        return self.kept_from(chain, 0)

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        del chain
        broken = None
        for path in takewhile(lambda path: size_in(path.name) >= least, self.files(SUFFIX)):
            try:
                # A file's time says when it was copied here, and may be set.
                kept = Kept(self.read(path).decode(errors="replace"), self.time_of(path))
            except StoreUnavailableError as error:
                broken = error
            else:
                yield kept
        if broken:  # the others count all the same
            raise broken

    def put(self, path: Path, content: bytes) -> None:
        """Make a file, whole and durable. One that is there stays. Raises StoreUnavailableError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_file(path, content, 0o444)
        except OSError as error:
            raise self._unavailable(error) from error

    def files(self, suffix: str) -> list[Path]:
        """Ours of this kind, the largest tree first. Raises StoreUnavailableError, ConfigurationError."""
        try:
            paths = [path for path in self.folder.iterdir() if path.suffix == suffix and _STEM.fullmatch(path.stem)]
        except FileNotFoundError:
            raise ConfigurationError(
                f"There is no folder {self.folder}: the first checkpoint that is anchored makes it; correct the anchor "
                "if there was one."
            ) from None
        except OSError as error:
            raise self._unavailable(error) from error
        return sorted(paths, reverse=True)

    def read(self, path: Path) -> bytes:
        """What is in a file, as far as it can be a checkpoint. Raises StoreUnavailableError."""
        try:
            if not path.is_file():  # a pipe would be waited for, for ever
                raise FileNotFoundError(errno.ENOENT, f"{path.name} is no file")
            with path.open("rb") as file:
                return file.read(MAX_NOTE_BYTES)
        except OSError as error:
            raise self._unavailable(error) from error

    def time_of(self, path: Path) -> datetime:
        """When the file was written, by the clock of whoever keeps it. Raises StoreUnavailableError."""
        try:
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self.folder}: {error.strerror}: see that it is mounted, and may be used.")


def size_in(name: str) -> int:
    """Of the tree whose checkpoint is called so."""
    return int(name[:_DIGITS])


def beginning_of(size: int) -> str:
    """What the names of checkpoints of this size begin with: all that are larger come after it."""
    return f"{size:0{_DIGITS}d}-"


def name_of(note: str) -> str:
    """What the file of this checkpoint is called: names sort as trees grow. Raises IntegrityError for what is none."""
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    return f"{beginning_of(checkpoint.size)}{checkpoint.root.hex()[:16]}{SUFFIX}"
