"""A tree cut into tiles (https://c2sp.org/tlog-tiles), which any tool for transparency logs reads.

Trust: whoever can change tiles can deny a proof, and show none that is false: every tile is under the root of a signed
checkpoint, and each record under its leaf.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from audit_core.errors import IntegrityError
from audit_core.integrity.merkle import HASH_SIZE, Frontier, subtree_root

WIDTH = 256
"""Hashes in a full tile, and records in a full bundle."""

_HEIGHT = 8  # levels of the tree in a tile: WIDTH is 2^8
_LENGTH = struct.Struct(">H")


class Tile(NamedTuple):
    """The hashes of ``width`` neighbouring subtrees, each of 256^level leaves."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies (tlog-tiles, Merkle Tree)."""
        return f"tile/{self.level}/{_place(self.number, self.width)}"

    @property
    def entries_path(self) -> str:
        """Where the records of a tile of level 0 lie (tlog-tiles, Log Entries)."""
        return f"tile/entries/{_place(self.number, self.width)}"


def _place(number: int, width: int) -> str:
    """Three digits an element: 1234067 is x001/x234/067 (tlog-tiles, Merkle Tree)."""
    last, elements = f"{number % 1000:03d}", []
    while number := number // 1000:
        elements.append(f"x{number % 1000:03d}")
    return "/".join([*reversed(elements), last if width == WIDTH else f"{last}.p/{width}"])


def plan_tiles(size: int, old_size: int = 0) -> Iterator[Tile]:
    """The tiles of a tree that one of ``old_size`` had not, level by level from the leaves, from left to right."""
    for level in count():
        width, old_width = size >> _HEIGHT * level, old_size >> _HEIGHT * level
        if not width:
            return
        for number in range(old_width // WIDTH, width // WIDTH):
            yield Tile(level, number)
        if width % WIDTH and width != old_width:
            yield Tile(level, width // WIDTH, width % WIDTH)


def plan_edge(size: int) -> Iterator[Tile]:
    """The partial tiles of a tree, from the leaves on: its right edge."""
    for level in count():
        width = size >> _HEIGHT * level
        if not width:
            return
        if width % WIDTH:
            yield Tile(level, width // WIDTH, width % WIDTH)


@dataclass(slots=True)
class TiledTree:
    """The right edge of a tree in tiles: what is needed to go on cutting it, ``_levels`` of at most 255 hashes each."""

    size: int = 0
    _levels: list[list[bytes]] = field(default_factory=list)

    @classmethod
    def from_edge(cls, size: int, tiles: Iterable[bytes]) -> TiledTree:
        """The tree of which these are the tiles that ``plan_edge`` names. Raises IntegrityError for any other length.

        Compare its root: what the tiles hold may be anything.
        """
        tree = cls(size)
        for tile, data in zip(plan_edge(size), tiles, strict=True):
            if len(data) != tile.width * HASH_SIZE:
                raise IntegrityError(f"{tile.path}: expected {tile.width * HASH_SIZE} bytes, got {len(data)}")
            tree._level(tile.level).extend(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))
        return tree

    def without_partial(self) -> TiledTree:
        """As it was when its last tile of leaves was full."""
        return TiledTree(self.size - self.size % WIDTH, [[], *map(list, self._levels[1:])])

    def add(self, leaves: Sequence[bytes]) -> Iterator[tuple[Tile, bytes]]:
        """Take the leaves of the next tile, and give what is full by that, each with its bytes.

        Only the last may be fewer than 256. Raises IntegrityError when one of them is not a SHA-256 hash.
        """
        hashes = list(leaves)
        for level in count():
            waiting = self._level(level)
            waiting += hashes
            if level == 0:
                self.size += len(hashes)
            if len(waiting) < WIDTH:
                return
            yield Tile(level, (self.size >> _HEIGHT * (level + 1)) - 1), b"".join(waiting)
            hashes = [subtree_root(waiting)]
            waiting.clear()

    def edge(self) -> Iterator[tuple[Tile, bytes]]:
        """The partial tiles, each with its bytes."""
        for tile in plan_edge(self.size):
            yield tile, b"".join(self._levels[tile.level])

    def root(self) -> bytes:
        """The root of the whole tree (RFC 9162, 2.1.1)."""
        frontier = Frontier(self.size)
        for hashes in reversed(self._levels):  # from the largest subtrees to the leaves
            part = Frontier()
            part.extend(hashes)
            frontier.hashes += part.hashes
        return frontier.root()

    def _level(self, level: int) -> list[bytes]:
        while len(self._levels) <= level:
            self._levels.append([])
        return self._levels[level]


def write_entries(records: Iterable[bytes]) -> bytes:
    """A bundle of records (tlog-tiles, Log Entries). Raises IntegrityError for one of more than 65,535 bytes."""
    try:
        return b"".join(_LENGTH.pack(len(record)) + record for record in records)
    except struct.error:
        raise IntegrityError("a record has at most 65,535 bytes") from None


def read_entries(data: bytes) -> list[bytes]:
    """The records of a bundle. Raises IntegrityError where the last one is cut."""
    records: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        at = start + (int.from_bytes(data[at:start], "big") if start <= len(data) else _LENGTH.size)
        if at > len(data):
            raise IntegrityError(f"a bundle of records ends in the midst of record {len(records)}")
        records.append(data[start:at])
    return records
