"""Signed notes (https://c2sp.org/signed-note): a text, and under it the lines of those who signed it.

Trust: whoever lacks the private key can neither change a text nor make one. They can add signatures of keys
that nobody asked for, and take signatures away; a text counts only once `open_note` has returned it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit_core.errors import IntegrityError

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100

_ED25519 = b"\x01"  # the signature type
_KEY_SIZE, _KEY_HASH_SIZE, _SIGNATURE_SIZE = 32, 4, 64
# The y of the points of small order, as RFC 8032 encodes them and as it must not, without the sign of x: under one of
# these a signature fits without a private key (https://eprint.iacr.org/2020/1244), and whoever handed it out could deny
# what he signed.
_PRIME = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_OF_EVERYBODY = {
    y.to_bytes(_KEY_SIZE, "little") for y in (0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ORDER_8, _PRIME - _ORDER_8)
}
_PREFIX = "— "
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")  # \s is every Unicode space
_NOT_IN_A_NOTE = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # a lone surrogate has no UTF-8


class Signer(Protocol):
    """Whatever can make Ed25519 signatures: a key in memory, a KMS, an HSM."""

    @property
    def public_key(self) -> bytes:
        """The 32 raw bytes of the public key."""

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature (RFC 8032)."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name it signs under. Raises IntegrityError when one of the two cannot be used.

    An attacker who can replace the auditor's verifier key can make every forgery look right: it must reach
    the auditor by a way that the operator of the trail does not control.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public_key) != _KEY_SIZE:
            raise IntegrityError(f"an Ed25519 public key has {_KEY_SIZE} bytes, got {len(self.public_key)}")
        if self.public_key[:-1] + bytes([self.public_key[-1] & 0x7F]) in _OF_EVERYBODY:
            raise IntegrityError("this public key is no key: a signature that fits it can be made by anybody")

    @property
    def key_hash(self) -> bytes:
        """The key ID: four bytes that tell keys of one name apart (signed-note, Signatures)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_HASH_SIZE]

    def __str__(self) -> str:
        """The key as it is handed to an auditor: name+hash+key."""
        return f"{self.name}+{self.key_hash.hex()}+{encode_base64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read what `str` wrote. Raises IntegrityError for anything else, and when the hash is wrong."""
        name, _, rest = text.partition("+")
        key_hash, plus, encoded = rest.partition("+")  # the base64 may hold more of them
        if not plus:
            raise IntegrityError(f"a verifier key reads name+hash+key, got {text[:200]!r}")
        check_key_name(name)
        try:
            key = cls(name, _public_key(encoded))
        except IntegrityError as error:
            raise IntegrityError(f"the verifier key was not copied whole ({error}): copy the key again") from None
        if key_hash != key.key_hash.hex():
            raise IntegrityError(
                f"the verifier key of {name} has a wrong hash: expected {key.key_hash.hex()}, "
                f"got {key_hash[:20]!r}; copy the key again, whole"
            )
        return key

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature over the message (RFC 8032, 5.1.7)."""
        try:
            _loaded(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def key_name_is_valid(name: str) -> bool:
    """Whether a key may have this name: not empty, no Unicode spaces, no plus sign (signed-note, Format)."""
    return _KEY_NAME.fullmatch(name) is not None


def check_key_name(name: str) -> None:
    """Raise IntegrityError unless a key may have this name."""
    if not key_name_is_valid(name):
        raise IntegrityError(f"a key name is not empty, has no spaces and no plus sign, got {name[:200]!r}")


def spelled(name: str) -> str:
    """A key's name in ASCII, for whoever compares two: letters of other scripts look like these."""
    return name.encode("ascii", "backslashreplace").decode()


def check_text(text: str) -> None:
    """Raise IntegrityError unless a note may have this text (signed-note, Format)."""
    _check_characters(text)
    if not text.endswith("\n"):
        raise IntegrityError(f"the text of a note ends in a newline, got {text[-20:]!r}")


def sign_text(text: str, name: str, signer: Signer) -> str:
    """The signature for a note's signature line: base64 of key hash and signature.

    Raises IntegrityError for a text or a name that no note may have, and when the signer makes no Ed25519
    signature.
    """
    check_text(text)
    key = VerifierKey(name, signer.public_key)
    signature = signer.sign(text.encode())
    if len(signature) != _SIGNATURE_SIZE:
        raise IntegrityError(
            f"the signer of {name} made no Ed25519 signature: expected {_SIGNATURE_SIZE} bytes, got {len(signature)}"
        )
    return encode_base64(key.key_hash + signature)


def format_note(text: str, signatures: Sequence[tuple[str, str]]) -> str:
    """Put the (name, signature) pairs under the text.

    Raises IntegrityError for a note that `parse_note` would not read back as the same.
    """
    check_text(text)
    note = text + "\n" + "".join(f"{_PREFIX}{name} {signature}\n" for name, signature in signatures)
    if parse_note(note) != (text, list(signatures)):
        raise IntegrityError("the signatures of a note are lines of their own, without spaces")
    return note


def parse_note(note: str) -> tuple[str, list[tuple[str, str]]]:
    """Take a note apart: the text, and the (name, signature) pairs (signed-note, Format).

    Nothing is verified: use `open_note` to trust it. Raises IntegrityError for anything that is not exactly
    a signed note.
    """
    _check_characters(note)
    end = note.rfind("\n\n")  # the last empty line: the text may have some of its own
    if end < 0:
        raise IntegrityError("a note is a text, an empty line and signatures; there is no empty line")
    # Never splitlines(): it also splits at U+0085 and U+2028, which a text may hold.
    *lines, last = note[end + 2 :].split("\n")
    if last or not lines:
        raise IntegrityError(f"the signatures of a note are whole lines, got {last[:200]!r} at the end")
    if len(lines) > MAX_SIGNATURES:
        raise IntegrityError(f"a note has at most {MAX_SIGNATURES} signatures, got {len(lines)}")
    return note[: end + 1], [_signature_line(line) for line in lines]


def open_note(note: str, key: VerifierKey) -> str:
    """The text of a note that this key signed (signed-note, Signatures).

    Signatures of other keys are passed over. Raises IntegrityError when no signature is by this key, or when
    one that says so does not verify.
    """
    text, signatures = parse_note(note)
    message, opened = text.encode(), False
    for name, encoded in signatures:
        key_hash, signature = split_signature(encoded)
        if name != key.name or key_hash != key.key_hash:
            continue
        if not key.verifies(message, signature):
            raise IntegrityError(f"the signature of {name} does not verify: it or the text was changed")
        opened = True
    if not opened:
        raise IntegrityError(f"no signature by the expected key {key}, got {[name for name, _ in signatures]}")
    return text


def split_signature(encoded: str) -> tuple[bytes, bytes]:
    """The key hash and the signature of a signature line. Raises IntegrityError when it holds no such two."""
    decoded = decode_base64(encoded)
    if len(decoded) <= _KEY_HASH_SIZE:
        raise IntegrityError(f"a signature is a key hash and more, got {len(decoded)} bytes")
    return decoded[:_KEY_HASH_SIZE], decoded[_KEY_HASH_SIZE:]


def encode_base64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Standard base64 in its one canonical form (RFC 4648, 3.5 and 4). Raises IntegrityError for every other.

    Without this, the last character could be changed in the bits that decoding drops, and nobody would see.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        decoded = b""
    if encode_base64(decoded) != text:
        raise IntegrityError(f"this is not canonical base64: {text[:200]!r}")
    return decoded


def _check_characters(text: str) -> None:
    """Raise IntegrityError for control characters, for what has no UTF-8, and for what is too long."""
    found = _NOT_IN_A_NOTE.search(text)
    if found:
        raise IntegrityError(f"a note has no control characters but newlines, got {found[0]!r}")
    if len(text.encode()) > MAX_NOTE_BYTES:
        raise IntegrityError(f"a note has at most {MAX_NOTE_BYTES} bytes, got {len(text.encode())}")


def _signature_line(line: str) -> tuple[str, str]:
    """One line as (name, signature). Raises IntegrityError for any other form."""
    name, _, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX):
        raise IntegrityError(f"a signature line starts with an em dash and a space, got {line[:200]!r}")
    check_key_name(name)
    split_signature(encoded)
    return name, encoded


def _public_key(encoded: str) -> bytes:
    """The public key in the last part of a verifier key. Raises IntegrityError when it is of another type."""
    decoded = decode_base64(encoded)
    if decoded[:1] != _ED25519:
        raise IntegrityError(f"a verifier key is of type 01 (Ed25519), got {decoded[:1].hex() or 'nothing'}")
    return decoded[1:]


@lru_cache(maxsize=64)
def _loaded(public_key: bytes) -> Ed25519PublicKey:
    """Kept, because one verification of a trail asks for the same key at every checkpoint."""
    return Ed25519PublicKey.from_public_bytes(public_key)
