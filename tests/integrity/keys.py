"""Signers for the tests of this folder, from fixed seeds."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit_core.integrity.note import VerifierKey


class SeedSigner:
    """A Signer in memory."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


OURS, THEIRS = SeedSigner(1), SeedSigner(2)
NAME = "audit.example/clinic"
KEY = VerifierKey(NAME, OURS.public_key)
