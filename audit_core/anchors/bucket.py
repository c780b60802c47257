"""A bucket of S3 with Object Lock: not even who owns the account can remove a checkpoint before its time.

An attacker who may write to the bucket can add what is no checkpoint. One who owns the account can close it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from audit_core.anchors.folder import SUFFIX, beginning_of, name_of
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import AuditError, ConflictError, StoreUnavailableError
from audit_core.s3 import Bucket, Locked, Version

READERS = 16  # requests at a time


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
        broken = None
        with ThreadPoolExecutor(READERS, "audit-anchor") as readers:
            for found in readers.map(self._read, reversed(objects)):
                if isinstance(found, Locked):
                    yield Kept(found.body.decode(errors="replace"), found.modified, is_attested=True)
                else:
                    broken = found
        if broken:  # the others count all the same
            raise broken

    def _read(self, versions: list[Version]) -> Locked | AuditError:
        try:
            found = self._bucket.read(versions)
        except AuditError as error:
            return error
        if found.is_locked:
            return found
        key = versions[0].key
        return StoreUnavailableError(f"{self.name} holds {key} without a lock, which anybody can exchange.")

    def _check(self) -> None:
        if not self._is_checked:
            self._bucket.check()
            self._is_checked = True


def _is_ours(versions: list[Version]) -> bool:
    """Anybody who may delete can put a marker where nothing was."""
    return versions[0].key.endswith(SUFFIX) and not all(version.is_marker for version in versions)
