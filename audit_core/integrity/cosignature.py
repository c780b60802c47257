"""Cosignatures (https://c2sp.org/tlog-cosignature): a witness's word that a chain extends what it has seen before."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

from audit_core.errors import IntegrityError
from audit_core.integrity.note import (
    VerifierKey,
    check_key_name,
    decode_base64,
    encode_base64,
    parse_note,
    split_signature,
)

_ED25519 = b"\x04"  # the signature type
_SIZE = 8 + 64  # a time, and an Ed25519 signature
_LATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """The public key of a witness, with its name. Whoever can replace it can speak for the witness."""

    name: str
    public_key: bytes

    @property
    def key_hash(self) -> bytes:
        """The key ID (tlog-cosignature, Format)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{encode_base64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> CosignerKey:
        """Read name+hash+key, with a key of type 04. Raises IntegrityError for anything else."""
        name, _, rest = text.strip().partition("+")
        key_hash, _, encoded = rest.partition("+")
        check_key_name(name)
        key = decode_base64(encoded)
        if key[:1] != _ED25519 or len(key) != 33:
            raise IntegrityError(f"the key of a witness is of type 04 (an Ed25519 cosigner), got {text[:200]!r}")
        found = cls(name, key[1:])
        if found.key_hash.hex() != key_hash:
            raise IntegrityError(f"the key of the witness {name} was not copied whole: copy it again")
        return found


def cosigned_text(text: str, time: int) -> bytes:
    """What a witness signs (tlog-cosignature, Ed25519 signed message); ``time`` in seconds since 1970."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def open_cosignature(note: str, key: CosignerKey) -> int:
    """When the witness cosigned this note, in seconds since 1970. Raises IntegrityError when it did not."""
    text, signatures = parse_note(note)
    for name, encoded in signatures:
        key_hash, signature = split_signature(encoded)
        if (name, key_hash) != (key.name, key.key_hash) or len(signature) != _SIZE:
            continue
        (time,) = struct.unpack(">Q", signature[:8])
        # Its name plays no part in the message; VerifierKey only checks the signature.
        if time <= _LATEST and VerifierKey(key.name, key.public_key).verifies(cosigned_text(text, time), signature[8:]):
            return int(time)
        raise IntegrityError(f"the cosignature of {key.name} does not verify")
    raise IntegrityError(f"no cosignature of {key.name}, got {[name for name, _ in signatures]}")
