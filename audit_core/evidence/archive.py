"""A ZIP file with the same bytes for the same content, and with sums over each of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from audit_core.errors import ConfigurationError
from audit_core.process.disk import new_file

SUMS = "SHA256SUMS"
_COMMENT = b"sha256:" + b"0" * 64  # of all bytes before it
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the first that the format has
_READABLE = 0o100644 << 16
_LARGE = 2**30


class Archive:
    """Takes one file after another."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._sums: dict[str, str] = {}

    def add(self, name: str, chunks: Iterable[bytes], *, size: int = 0) -> None:
        """Write a file. ``size`` is about how many bytes it may have; more than a gigabyte has to be said before."""
        digest = sha256()
        info = zipfile.ZipInfo(name, _NO_TIME)
        info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, _READABLE
        with self._archive.open(info, "w", force_zip64=size > _LARGE) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        self._sums[name] = digest.hexdigest()

    def add_sums(self) -> None:
        """Write what `sha256sum -c` reads, last."""
        self.add(SUMS, ["".join(f"{digest}  {name}\n" for name, digest in self._sums.items()).encode()])


@contextmanager
def new_archive(path: Path) -> Iterator[Archive]:
    """An archive that was not there before, and is there once it is whole: not where the block raises, or is killed.

    Raises ConfigurationError where something is there already, OSError where it cannot be written.
    """
    try:
        with new_file(path) as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.comment = _COMMENT
                content = Archive(archive)
                yield content
                content.add_sums()
            _seal(file)
    except FileExistsError:
        raise ConfigurationError(f"The file {path} is there already, and is not overwritten: name another.") from None


def _seal(file: BinaryIO) -> None:
    """Put the sum over all bytes before it into the comment, so that no bit of the archive changes unseen."""
    file.seek(0)
    digest, left = sha256(), _size_of(file) - len(_COMMENT)
    while left:
        chunk = file.read(min(left, 1 << 20))
        digest.update(chunk)
        left -= len(chunk)
    file.seek(-len(_COMMENT), 2)
    file.write(b"sha256:" + digest.hexdigest().encode())


def _size_of(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size
