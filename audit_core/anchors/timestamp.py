"""An RFC 3161 time-stamp authority: states that a checkpoint existed at a time. It keeps nothing; its receipts do.

An attacker who can write the folder of the receipts can remove them. He cannot have one made for an earlier time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_core.anchors.folder import SUFFIX, FolderAnchor, Receipt, name_of, size_in
from audit_core.anchors.web import post, without_user
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.extras import lacking

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

STAMP = ".tsr"


class TimestampAnchor:
    """Has each checkpoint stamped, and keeps it with its stamp in ``receipts``, as `openssl ts -verify` reads them."""

    def __init__(self, url: str, ca: str, receipts: FolderAnchor) -> None:
        """``ca`` is the file (PEM) with the authority's root certificate."""
        self._url, self._ca, self._receipts = url, ca, receipts
        self._client = _import()

    @property
    def name(self) -> str:
        return f"the time-stamp authority {without_user(self._url)}"

    def keep(self, note: str, chain: AuditChain) -> None:
        path = self._receipts.folder / name_of(note)
        if path.exists():
            return
        client, verifier = self._client, self._verifier()
        request = client.TimestampRequestBuilder(note.encode(), client.HashAlgorithm.SHA256).build()
        response = post(self._url, request.as_bytes(), "application/timestamp-query")
        stamp = self._parse(response.body, f"status {response.status}")
        if stamp.tst_info.nonce != request.nonce:
            raise StoreUnavailableError(f"{self.name} answers another request than ours.")
        self._check(verifier, stamp, note.encode())
        self._receipts.put(path.with_suffix(STAMP), response.body)
        self._receipts.keep(note, chain)  # last: what has no stamp is not stamped yet

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        return self.kept_from(chain, 0)

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        del chain
        for receipt in self.receipts(least):
            yield Kept(receipt.note, receipt.since, is_attested=True)

    def receipts(self, least: int = 0) -> Iterator[Receipt]:
        """Those that hold, of trees of ``least`` events or more, the largest first. Raises as ``kept`` does."""
        verifier, broken = self._verifier(), None
        for path in takewhile(lambda path: size_in(path.name) >= least, self._receipts.files(STAMP)):
            try:
                note = self._receipts.read(path.with_suffix(SUFFIX))
                signed = self._receipts.read(path)
                stamp = self._parse(signed, str(path))
                self._check(verifier, stamp, note)
            except StoreUnavailableError as error:
                broken = error
            else:
                yield Receipt(note.decode(errors="replace"), stamp.tst_info.gen_time, signed)
        if broken:  # the others count all the same
            raise broken

    def _verifier(self) -> Any:
        from cryptography.x509 import load_pem_x509_certificates

        try:
            roots = load_pem_x509_certificates(Path(self._ca).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The certificate of the time-stamp authority, {self._ca}, cannot be read ({error}): name a file in "
                "PEM with ca=."
            ) from error
        return self._client.VerifierBuilder(roots=roots).build()

    def _parse(self, data: bytes, what: str) -> TimeStampResponse:
        try:
            stamp: TimeStampResponse = self._client.decode_timestamp_response(data)
            _ = stamp.tst_info.gen_time  # one that was refused has none
        except ValueError as error:
            raise StoreUnavailableError(f"{self.name} gives no time stamp ({what}: {error}).") from error
        return stamp

    def _check(self, verifier: Any, stamp: TimeStampResponse, message: bytes) -> None:
        """By the name of the authority: a stamp that does not hold is no receipt."""
        try:
            verifier.verify_message(stamp, message)
        except (self._client.VerificationError, ValueError) as error:
            raise StoreUnavailableError(
                f"A time stamp of {self.name} does not hold ({error}): it was changed, or is not by the authority of "
                f"{self._ca}."
            ) from error


def _import() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise ConfigurationError(lacking("A time-stamp authority", "rfc3161-client", "timestamps")) from None
    return rfc3161_client
