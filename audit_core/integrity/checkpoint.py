"""Checkpoints (https://c2sp.org/tlog-checkpoint): the signed word of a chain on its size and its root.

Trust: a checkpoint kept where the operator cannot rewrite it binds the operator to every record up to its
size. One that lies only beside the records binds nobody who has the private key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from audit_core.errors import IntegrityError
from audit_core.integrity.merkle import HASH_SIZE
from audit_core.integrity.note import (
    Signer,
    VerifierKey,
    check_key_name,
    check_text,
    decode_base64,
    encode_base64,
    format_note,
    open_note,
    sign_text,
    split_signature,
)

MAX_SIZE = 2**63 - 1

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")  # the decimal form, in ASCII digits, without leading zeros


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the chain `origin` looked like at `size` records.

    The origin is at the same time the name of the key that signs, so it must be a valid key name. Raises
    IntegrityError when it is not, and for a size or a root that no tree has.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        check_key_name(self.origin)
        if not 0 <= self.size <= MAX_SIZE:
            raise IntegrityError(f"the size of a tree is between 0 and 2^63 - 1, got {self.size}")
        if len(self.root) != HASH_SIZE:
            raise IntegrityError(f"the root of a tree has {HASH_SIZE} bytes, got {len(self.root)}")

    def text(self) -> str:
        """The note text that is signed (tlog-checkpoint, Note text)."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text (tlog-checkpoint, Note text). Raises IntegrityError for every other form.

        Extension lines are passed over, so `text` then gives back the first three lines only.
        """
        check_text(text)
        match text.split("\n")[:-1]:
            case [origin, size, root, *extensions] if "" not in extensions:
                pass
            case _:
                raise IntegrityError(f"a checkpoint has three lines or more, none empty, got {text[:200]!r}")
        if not _SIZE.fullmatch(size):
            raise IntegrityError(f"a tree size is a decimal number without leading zeros, got {size[:40]!r}")
        return cls(origin, int(size), decode_base64(root))

    def sign(self, signer: Signer) -> str:
        """The signature, under the origin as the key's name (tlog-checkpoint, Signatures)."""
        return sign_text(self.text(), self.origin, signer)

    def is_signed_by(self, key: VerifierKey, signature: str) -> bool:
        """Whether `sign` made this signature with this key; a malformed one is just not one."""
        try:
            key_hash, raw = split_signature(signature)
        except (IntegrityError, TypeError):  # a column may hold anything
            return False
        known = (key.name, key.key_hash) == (self.origin, key_hash)
        return known and key.verifies(self.text().encode(), raw)

    def note(self, signature: str) -> str:
        """The whole note, as it goes out to anchors. Raises IntegrityError for a malformed signature."""
        return format_note(self.text(), [(self.origin, signature)])


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that this key signed.

    Raises IntegrityError when it did not, when the text is no checkpoint, and when it is of another chain.
    """
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != key.name:
        raise IntegrityError(f"a checkpoint of another chain: expected {key.name}, got {checkpoint.origin}")
    return checkpoint
