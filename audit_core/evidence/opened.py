"""The files of a bundle, out of a ZIP file that a stranger has made."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import IO, BinaryIO, TypeVar

from audit_core.errors import IntegrityError
from audit_core.evidence.one_reading import second_readings

COMMENT = re.compile(rb"sha256:([0-9a-f]{64})")
COMMENT_SIZE = 71
NAMES = re.compile(
    r"README\.txt|evidence\.html|SHA256SUMS|bundle\.json|checkpoint\.txt|(keys|consistency|records|proofs)\.jsonl"
    r"|kept/[1-9][0-9]*-[1-9][0-9]*\.(checkpoint|tsr)"
)
NEEDED = (
    "README.txt", "bundle.json", "checkpoint.txt", "keys.jsonl", "consistency.jsonl", "records.jsonl", "proofs.jsonl",
    "evidence.html", "SHA256SUMS",
)  # fmt: skip
SMALL = 16 << 20  # bytes that a file may have that is read as a whole
LINE = 1 << 17  # bytes of the longest line
EVENTS = 100_000  # that a bundle has, at most: no browser opens a page with many more
KEPT = 1_000  # checkpoints that were kept elsewhere
_KEPT_BYTES = 1 << 20  # of a note or of a time stamp
_MOST = {"records.jsonl": EVENTS << 16, "proofs.jsonl": EVENTS << 12, "evidence.html": EVENTS << 17}  # bytes
_CHUNK = 1 << 20
T = TypeVar("T")


class OpenedBundle:
    """Reads each file as every other reader of ZIP files would: there is no second way to read it.

    Raises IntegrityError for an archive that is none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            self._archive = zipfile.ZipFile(file)
        except Exception as error:  # a stranger's archive makes it raise many things
            raise IntegrityError(f"it is no ZIP file that can be read ({type(error).__name__})") from error
        self.names = [info.filename for info in self._archive.infolist()]

    def faults(self) -> Iterator[str]:
        """What is not as it was written."""
        comment = COMMENT.fullmatch(self._archive.comment)
        if comment is None:
            yield "it has no sum at its end"
        elif self._sum() != comment[1].decode():
            yield "it was changed or damaged after it was written: its bytes do not give the sum at its end"
        yield from second_readings(self._file, self._archive, COMMENT_SIZE if comment else len(self._archive.comment))
        for name, count in sorted(Counter(self.names).items()):
            if count > 1:
                yield f"the file {name[:200]} is there {count} times"
            if not NAMES.fullmatch(name):
                yield f"the file {name[:200]!r} does not belong into a bundle"
        yield from (f"the file {name} is missing" for name in NEEDED if name not in self.names)

    def bombs(self) -> Iterator[str]:
        """What no bundle has so much of: to unpack it would take for ever. No more comes out than the archive says."""
        if len(self.names) > len(NEEDED) + 2 * KEPT:
            yield f"it has {len(self.names):,} files, more than any bundle"
        for info in self._archive.infolist():
            most = _KEPT_BYTES if info.filename.startswith("kept/") else SMALL
            if info.file_size > _MOST.get(info.filename, most):
                yield f"the file {info.filename[:200]} has {info.file_size:,} bytes, more than that of any bundle"

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, each with its end. Raises IntegrityError."""
        with self._reading(name) as file:
            while line := _guarded(name, lambda: file.readline(LINE)):
                yield line

    def text(self, name: str, most: int = SMALL) -> str:
        """A whole file. Raises IntegrityError, also where it has more than ``most`` bytes."""
        with self._reading(name) as file:
            content = _guarded(name, lambda: file.read(most + 1))
        if len(content) > most:
            raise IntegrityError(f"{name} has more than {most:,} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise IntegrityError(f"{name} is not UTF-8") from None

    def content(self, name: str) -> bytes:
        """A small file that is no text. Raises IntegrityError."""
        with self._reading(name) as file:
            return _guarded(name, lambda: file.read(SMALL))

    def size(self, name: str) -> int:
        """How many bytes a file has, as the archive says; 0 for one that is not there."""
        return next((info.file_size for info in self._archive.infolist() if info.filename == name), 0)

    def digest(self, name: str) -> str:
        """SHA-256 of a file, in hex. Raises IntegrityError."""
        found = sha256()
        with self._reading(name) as file:
            while chunk := _guarded(name, lambda: file.read(_CHUNK)):
                found.update(chunk)
        return found.hexdigest()

    def _reading(self, name: str) -> IO[bytes]:
        return _guarded(name, lambda: self._archive.open(name))

    def _sum(self) -> str:
        """Of all bytes before the comment."""
        found, left = sha256(), self._file.seek(0, 2) - COMMENT_SIZE
        self._file.seek(0)
        while left > 0 and (chunk := self._file.read(min(left, _CHUNK))):
            found.update(chunk)
            left -= len(chunk)
        return found.hexdigest()


def _guarded(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except Exception as error:  # a stranger's archive makes zipfile raise many things
        raise IntegrityError(f"{name[:200]} cannot be read ({type(error).__name__}: {error})") from error
