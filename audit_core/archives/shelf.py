"""Archived months that are at hand: each is compared with the hash in its statement before any of it is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from audit_core.archives.objects import digest_of, read_object
from audit_core.archives.places import ArchivePlace, open_place
from audit_core.errors import AuditError, ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.integrity.retention import Archive
from audit_core.rows import Row
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore, insert_events


class MissingError(IntegrityError):
    """The place is there, and the object is not."""


class Shelf:
    """Opens archives, at the places that are given, else where their statements say; and remembers what it has opened.

    Trust: a place may be anybody's. What has not the signed hash is not read.
    """

    def __init__(self, urls: Sequence[str] = ()) -> None:
        """Raises ConfigurationError for a URL of no place."""
        self._places = [open_place(url) for url in urls]
        self._paths: dict[int, Path] = {}
        self._restored: dict[int, SqliteStore] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_given(self) -> bool:
        """Whether somebody has said where they lie."""
        return bool(self._places)

    @contextmanager
    def looking_in(self, urls: Sequence[str]) -> Iterator[None]:
        """In the block archives are looked for there, if anywhere is named: for a command that is told so.

        Raises ConfigurationError for a URL of no place.
        """
        before = self._places
        if urls:
            self.close()
            self._places = [open_place(url) for url in urls]
        try:
            yield
        finally:
            if urls:
                self.close()
            self._places = before

    def path(self, archive: Archive) -> Path:
        """A file with the object, whole and as it was signed.

        Raises MissingError and IntegrityError where the object is gone or another one, StoreUnavailableError where no
        place can be asked, ConfigurationError for a place that is none.
        """
        if archive.sequence not in self._paths:
            path = self._fetch(archive)
            if digest_of(path) != (archive.sha256, archive.size):
                raise IntegrityError(f"{archive.object} is not what was archived: it was changed, or cut off")
            self._paths[archive.sequence] = path
        return self._paths[archive.sequence]

    def rows(self, archive: Archive, log: str) -> Iterator[Row]:
        """The rows of an archive, in order of sequence. Raises as ``path`` does."""
        return read_object(self.path(archive), log)

    def restored(self, archive: Archive, log: str) -> SqliteStore:
        """The archive as a store that can be searched, in a file that is removed when this is closed."""
        if archive.sequence not in self._restored:
            path = self.folder / f"{archive.sequence}.db"
            path.unlink(missing_ok=True)  # of a try that was interrupted
            store = SqliteStore(SqliteDatabase(path))
            try:
                store.create()
                insert_events(store, self.rows(archive, log))
            except BaseException:  # nobody else knows of it yet
                store.close()
                raise
            self._restored[archive.sequence] = store
        return self._restored[archive.sequence]

    @property
    def folder(self) -> Path:
        """For files of ours, which nobody else may read."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="audit-archive-")
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove what was fetched and restored."""
        for store in self._restored.values():
            store.close()
        self._restored, self._paths = {}, {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _fetch(self, archive: Archive) -> Path:
        unavailable: AuditError | None = None
        for place in self._places or [_stored(archive)]:
            try:
                if (path := place.fetch(archive.object, self.folder)) is not None:
                    return path
            except StoreUnavailableError as error:
                unavailable = error
        if unavailable is not None:
            raise unavailable
        raise MissingError(f"{archive.object} is not there any more")


def _stored(archive: Archive) -> ArchivePlace:
    try:
        return open_place(archive.place)
    except ConfigurationError as error:  # boto3 is missing here, say
        raise StoreUnavailableError(f"{archive.place} cannot be opened: {error}") from error
