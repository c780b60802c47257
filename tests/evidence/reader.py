"""A reader of tiles after c2sp.org/tlog-tiles, tlog-checkpoint and signed-note alone: nothing of ours is in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class WrongError(Exception):
    """What lies there is not what was signed."""


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verify(read: Callable[[str], bytes], key: str) -> list[bytes]:
    """Every record of the log, of which every tile was compared. Raises WrongError, KeyError."""
    size, root = open_checkpoint(read("checkpoint"), key)
    records = []
    for start in range(0, size, 256):
        records += bundle(read(path_of("entries", start // 256, min(256, size - start))))
        wrong(len(records) != min(start + 256, size), "a bundle has another number of records")
    hashes, level = [node(b"\x00", record) for record in records], 0
    wrong(tree_root(hashes) != root, "the records are not those of the root")
    while hashes:
        for start in range(0, len(hashes), 256):
            part = hashes[start : start + 256]
            path = path_of(str(level), start // 256, len(part))
            wrong(read(path) != b"".join(part), path)
        hashes = [tree_root(hashes[at - 256 : at]) for at in range(256, len(hashes) + 1, 256)]
        level += 1
    return records


def path_of(level: str, number: int, width: int) -> str:
    digits = str(number).zfill(-(-len(str(number)) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    place = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{place}" + (f".p/{width}" if width < 256 else "")


def bundle(data: bytes) -> list[bytes]:
    records = []
    while data:
        length = int.from_bytes(data[:2], "big")
        wrong(len(data) < 2 + length, "a bundle is cut")
        records.append(data[2 : 2 + length])
        data = data[2 + length :]
    return records


def node(prefix: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(prefix + b"".join(parts)).digest()


def tree_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is defined there."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return node(b"\x01", tree_root(hashes[:half]), tree_root(hashes[half:]))


def open_checkpoint(note: bytes, key: str) -> tuple[int, bytes]:
    text, _, signatures = note.decode(errors="replace").rpartition("\n\n")
    name, key_hash, public = key.split("+", 2)
    lines = text.split("\n")
    wrong(len(lines) != 3 or lines[0] != name, "no checkpoint of this log")
    message = f"{text}\n".encode()
    signed = [line.split(" ") for line in signatures.split("\n")[:-1]]
    wrong(not signatures.endswith("\n"), "the last line does not end")
    for dash, who, signature in (parts for parts in signed if len(parts) == 3):
        raw = strict(signature)
        if (dash, who, raw[:4].hex()) == ("—", name, key_hash):
            try:
                Ed25519PublicKey.from_public_bytes(strict(public)[1:]).verify(raw[4:], message)
            except InvalidSignature:
                raise WrongError("the signature") from None
            wrong(not lines[1].isascii() or str(int(lines[1])) != lines[1], "the size")
            return int(lines[1]), strict(lines[2])
    raise WrongError("nobody has signed it")


def strict(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise WrongError("no base64") from None
    wrong(base64.b64encode(data).decode() != text, "another base64")
    return data


def wrong(is_wrong: bool, what: str) -> None:
    if is_wrong:
        raise WrongError(what)
