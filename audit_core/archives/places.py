"""Where archived months lie: a folder, or a bucket of S3 with Object Lock."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from audit_core.archives.objects import digest_of
from audit_core.errors import ConfigurationError, ConflictError, StoreUnavailableError
from audit_core.process.disk import FULL, sync_folder
from audit_core.s3 import Bucket, Locked, Version, open_bucket


class ArchivePlace(Protocol):
    """Keeps objects, each under a name of its own that no other has."""

    url: str

    def put(self, name: str, path: Path) -> None:
        """Keep a copy of the file, whole and durable; one that is there already stays if it is the same.

        Raises ConfigurationError, ConflictError where another one has the name, StoreUnavailableError.
        """

    def fetch(self, name: str, folder: Path) -> Path | None:
        """A copy in ``folder``, which nobody else changes; None where there is none. Raises StoreUnavailableError."""

    def holds(self, name: str) -> bool:
        """Whether there is such an object. Raises StoreUnavailableError where nobody can tell."""

    def locked_until(self, name: str) -> datetime | None:
        """Until when nobody can destroy an object; None where somebody can, and where there is none."""

    def remove(self, name: str) -> None:
        """Destroy an object; one that is not there is no error. Raises StoreUnavailableError while it is locked."""


class FolderPlace:
    """A folder: on other storage, on a medium that is written once.

    An attacker who can write the folder can remove objects; what he changes in one does not fit the signed hash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = self.folder.as_uri()

    def put(self, name: str, path: Path) -> None:
        final, draft = self.folder / name, self.folder / f".{name}.{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if final.exists():
                if digest_of(final) != digest_of(path):
                    raise ConflictError(f"{final} is there already, and is another one: move it away.")
                return
            try:
                _copy(path, draft)
                draft.replace(final)  # a crash before leaves a draft that nobody reads
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(self.folder)
        except OSError as error:
            raise self._unavailable(error) from error

    def fetch(self, name: str, folder: Path) -> Path | None:
        if not self.holds(name):
            return None
        try:
            return Path(shutil.copyfile(self.folder / name, folder / name))
        except OSError as error:
            if error.errno in FULL:  # where the copy lies
                raise
            raise self._unavailable(error) from error

    def holds(self, name: str) -> bool:
        try:
            if not self.folder.is_dir():
                raise FileNotFoundError(2, "there is no such folder")
            return (self.folder / name).is_file()
        except OSError as error:
            raise self._unavailable(error) from error

    def locked_until(self, name: str) -> datetime | None:
        del name
        return None  # a folder locks nothing

    def remove(self, name: str) -> None:
        try:
            (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailableError:
        cure = "make room there" if error.errno in FULL else "see that it is mounted, and may be used"
        return StoreUnavailableError(f"{self.folder}: {error.strerror}: {cure}.")


class BucketPlace:
    """A bucket with Object Lock: not even who owns the account can change or remove an object before its time."""

    def __init__(self, url: str, bucket: Bucket, prefix: str) -> None:
        self.url, self._bucket, self._prefix = url, bucket, prefix

    def put(self, name: str, path: Path) -> None:
        self._bucket.check()
        self._bucket.put_new(self._prefix + name, path.read_bytes())

    def fetch(self, name: str, folder: Path) -> Path | None:
        if (found := self._find(name)) is None:
            return None
        if not found.is_locked:
            raise StoreUnavailableError(
                f"{self.url} holds {name} without a lock of a year or more, so that somebody may exchange it: "
                "lock it in COMPLIANCE mode, or name another place."
            )
        path = folder / name
        path.write_bytes(found.body)
        return path

    def holds(self, name: str) -> bool:
        return bool(self._versions(name))

    def locked_until(self, name: str) -> datetime | None:
        found = self._find(name)
        return found.retain_until if found is not None else None

    def remove(self, name: str) -> None:
        self._bucket.remove(self._prefix + name)

    def _find(self, name: str) -> Locked | None:
        return self._bucket.read(versions) if (versions := self._versions(name)) else None

    def _versions(self, name: str) -> list[Version]:
        """Of one object; none where there is nothing of it but markers."""
        versions = next(iter(self._bucket.objects(self._prefix + name)), [])
        is_it = versions and versions[0].key == self._prefix + name
        return versions if is_it and not all(version.is_marker for version in versions) else []


def open_place(url: str) -> ArchivePlace:
    """The place of ``file:///folder`` or ``s3://bucket/prefix``. Nothing is asked yet. Raises ConfigurationError."""
    with suppress(ValueError):  # of brackets that are no address's
        parts = urlsplit(url)
        path, is_here = unquote(parts.path), parts.netloc in {"", "localhost"}
        if parts.scheme == "s3":
            return BucketPlace(url, *open_bucket(url))
        is_folder = len(path) > 1 and "\0" not in path and not (parts.query or parts.fragment)
        if parts.scheme == "file" and is_here and is_folder:
            return FolderPlace(Path(path))
    raise ConfigurationError(f"An archive's URL is file:///folder or s3://bucket/prefix, not {url!r}.")


def _copy(path: Path, draft: Path) -> None:
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with path.open("rb") as source, open(fd, "wb") as target:  # noqa: PTH123 - of a descriptor
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
