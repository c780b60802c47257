"""A bucket of S3 with Object Lock: not even who owns the account can remove a checkpoint before its time.

An attacker who may write to the bucket can add what is no checkpoint. One who owns the account can close it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from audit_core.anchors.folder import SUFFIX, beginning_of, name_of
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import AuditError, ConflictError, StoreUnavailableError
from audit_core.s3 import Bucket, Version

READERS = 16  # requests at a time
AT_ONCE = 4 * READERS  # objects that are asked for together
REMEMBERED = 100_000  # checkpoints, of some 500 bytes each
# What was read once: a locked version stays what it is, and --follow asks for it every few minutes.
_read_before: dict[tuple[str, ...], Kept] = {}


class BucketAnchor:
    """Keeps each checkpoint in an object of its own, locked in COMPLIANCE mode."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._is_checked = False

    @property
    def name(self) -> str:
        return f"the bucket s3://{self._bucket.name}/{self._prefix}"

    def keep(self, note: str, chain: AuditChain) -> None:
        del chain
        self._check()
        key = self._prefix + name_of(note)
        try:
            self._bucket.put_new(key, note.encode())
        except ConflictError as error:
            raise StoreUnavailableError(f"{self.name} holds something else as {key}.") from error

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        return self.kept_from(chain, 0)

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        del chain
        self._check()
        before = f"{self._prefix}{beginning_of(least)}" if least else ""
        objects = [versions for versions in self._bucket.objects(self._prefix, before) if _is_ours(versions)]
        objects.reverse()
        broken = None
        with ThreadPoolExecutor(READERS, "audit-anchor") as readers:
            for some in _newest_first(objects):
                for found in readers.map(self._read, some):
                    if isinstance(found, Kept):
                        yield found
                    else:
                        broken = found
        if broken:  # the others count all the same
            raise broken

    def _read(self, versions: list[Version]) -> Kept | AuditError:
        key = versions[0].key
        which = (self._bucket.place, key, *(version.id for version in versions))
        if (before := _read_before.get(which)) is not None:
            return before
        try:
            found = self._bucket.read(versions)
        except AuditError as error:
            return error
        if found.is_locked:
            kept = Kept(found.body.decode(errors="replace"), found.modified, is_attested=True)
            if len(_read_before) < REMEMBERED:
                _read_before[which] = kept
            return kept
        return StoreUnavailableError(
            f"{self.name} holds {key} without a lock of a year or more, so that somebody may exchange it: find out who "
            "put it there."
        )

    def _check(self) -> None:
        if not self._is_checked:
            self._bucket.check()
            self._is_checked = True


def _newest_first(objects: Sequence[list[Version]]) -> Iterator[Sequence[list[Version]]]:
    """The first by itself: whoever asks for the newest alone waits for no other."""
    yield objects[:1]
    for start in range(1, len(objects), AT_ONCE):
        yield objects[start : start + AT_ONCE]


def _is_ours(versions: list[Version]) -> bool:
    """Anybody who may delete can put a marker where nothing was."""
    return versions[0].key.endswith(SUFFIX) and not all(version.is_marker for version in versions)
