"""A C2SP witness (https://c2sp.org/tlog-witness): cosigns a checkpoint once it is shown to extend the last one.

An attacker who runs the witness can claim to have seen more than there was. One who runs the trail cannot have two
histories cosigned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import time as unix_time

from audit_core.anchors import ContradictionError, reading
from audit_core.anchors.folder import SUFFIX, FolderAnchor, Receipt, name_of
from audit_core.anchors.web import Response, post, without_user
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.integrity.checkpoint import MAX_SIZE, Checkpoint
from audit_core.integrity.clock import CLOCKS_DIFFER
from audit_core.integrity.cosignature import CosignerKey, open_cosignature
from audit_core.integrity.note import encode_base64, parse_note
from audit_core.integrity.verify import Finding

TRIES = 4  # others may submit meanwhile
COSIGNED = ".cosigned"


class WitnessAnchor:
    """Remembers the size that it has seen; the cosigned notes lie in the ``receipts``."""

    def __init__(self, url: str, key: CosignerKey, receipts: FolderAnchor) -> None:
        self._url, self._key, self._receipts = url.rstrip("/"), key, receipts
        self._seen = 0  # what this process knows that it has seen

    @property
    def name(self) -> str:
        return f"the witness {without_user(self._key.name)}"

    def keep(self, note: str, chain: AuditChain) -> None:
        self._submit(note, chain, self._seen)

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        """Nothing that is signed."""
        del chain, least
        return iter(())

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        """The tree that it had seen before it was asked now: it has checked that the chain extends that."""
        if (note := chain.checkpoint_note()) is None:
            raise StoreUnavailableError("A witness is asked by showing it a checkpoint, and the trail has none.")
        if before := self._submit(note, chain, 0):
            origin = Checkpoint.parse(parse_note(note)[0]).origin
            yield Kept(Checkpoint(origin, before, chain.stored_root(before)))

    def receipts(self) -> Iterator[Receipt]:
        """What it has cosigned, the largest tree first; one that does not hold is none. Raises as ``kept`` does."""
        for path in self._receipts.files(COSIGNED):
            note = self._receipts.read(path).decode(errors="replace")
            with suppress(IntegrityError, ValueError, OverflowError):  # no time, or none that a calendar has
                yield Receipt(note, datetime.fromtimestamp(open_cosignature(note, self._key), UTC))

    def _submit(self, note: str, chain: AuditChain, old: int) -> int:
        """Have the note cosigned; the size that the witness had seen before."""
        for _ in range(TRIES):
            size = _size_of(note)
            old = min(old, size)  # another thread may have shown it a newer one
            response = post(f"{self._url}/add-checkpoint", self._request(note, chain, old, size), "text/plain")
            if response.status == 200:
                self._keep_receipt(note, response)
                self._seen = size
                return old
            if response.status != 409:
                raise self._refusal(response, old, size)
            seen = self._read_size(response)
            if seen > size:
                note = self._newer(chain, seen)
            elif seen == old < size:
                raise self._no_size(response)  # it was told that size, and has nothing against it
            elif seen == old:  # the sizes agree, so the roots do not (tlog-witness, add-checkpoint)
                expected, got = "the tree that it has cosigned", "another one of the same size"
                raise ContradictionError(Finding("known", size, expected, got, where=self.name), size)
            old = self._seen = seen
        raise StoreUnavailableError(f"{self.name} is given other checkpoints all the time: it is tried again later.")

    def _request(self, note: str, chain: AuditChain, old: int, size: int) -> bytes:
        with reading(chain):
            proof = chain.prove_consistency(old, size) if 0 < old < size else ()
        return "".join([f"old {old}\n", *(f"{encode_base64(digest)}\n" for digest in proof), "\n", note]).encode()

    def _keep_receipt(self, note: str, response: Response) -> None:
        cosigned = note + response.body.decode(errors="replace")
        try:
            time = open_cosignature(cosigned, self._key)
        except IntegrityError as error:
            raise StoreUnavailableError(f"{self.name} answers with what is no cosignature: {error}.") from error
        if unix_time() - time > CLOCKS_DIFFER.total_seconds():
            raise StoreUnavailableError(f"{self.name} answers with an old cosignature, or its clock or ours is wrong.")
        receipt = name_of(note).removesuffix(SUFFIX) + COSIGNED
        self._receipts.put(self._receipts.folder / receipt, cosigned.encode())

    def _newer(self, chain: AuditChain, seen: int) -> str:
        """What another process has shown it meanwhile, or more. Raises ContradictionError when the chain is shorter."""
        with reading(chain):
            note = chain.checkpoint_note()
        size = 0 if note is None else _size_of(note)
        if note is None or size < seen:
            expected = f"the {seen} events of a known checkpoint"
            raise ContradictionError(Finding("truncated", size, expected, str(size), where=self.name), seen)
        return note

    def _read_size(self, response: Response) -> int:
        """The size that it has seen."""
        text = response.body.strip()
        if not text.isdigit() or len(text) > 19 or int(text) > MAX_SIZE:
            raise self._no_size(response)
        return int(text)

    def _no_size(self, response: Response) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self.name} answers with what is no size: {response.body[:100]!r}.")

    def _refusal(self, response: Response, old: int, size: int) -> Exception:
        if response.status == 422 and old:  # nothing is extended by everything
            expected, got = f"a tree that extends the {old} events that it has cosigned", f"one of {size} that does not"
            return ContradictionError(Finding("known", old, expected, got, where=self.name), old)
        cures = {404: "does not know this trail", 403: "knows another key of this trail"}
        if cure := cures.get(response.status):
            return ConfigurationError(f"{self.name} {cure}: give its operator what `audit keygen --verifier` prints.")
        return StoreUnavailableError(f"{self.name} answers with status {response.status}.")


def _size_of(note: str) -> int:
    return Checkpoint.parse(parse_note(note)[0]).size
