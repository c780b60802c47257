"""A trail as a folder of tiles (https://c2sp.org/tlog-tiles), for other people's tools.

Of events that were purged there are hashes and no records: a bundle of 256 entries with one of them is left out, and
every tile of hashes is there.

An attacker who can change the folder can deny what it holds: whatever he puts there does not fit the checkpoint, unless
he holds the signing key as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from audit_core.canonical import encode_record
from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import EMPTY_ROOT, HASH_SIZE
from audit_core.integrity.note import parse_note
from audit_core.integrity.tiles import (
    WIDTH,
    Tile,
    TiledTree,
    plan_edge,
    plan_tiles,
    read_entries,
    write_entries,
)
from audit_core.outbox.locks import try_lock_alone
from audit_core.rows import Row

CHECKPOINT = "checkpoint"
_NEW = ".new"  # a file on its way
_OURS = {CHECKPOINT, CHECKPOINT + _NEW, "tile"}
_LEVEL = re.compile(r"entries|\d{1,2}")

Progress = Callable[[int, int], None] | None


class Exported(NamedTuple):
    """How many events the tiles hold, and how many of them were there before; which of them lack their records."""

    size: int
    before: int
    lacking: int = 0  # bundles of up to 256 entries, in which events were purged
    whole_from: int = 0  # the sequence from which on no bundle is lacking


def export_tiles(chain: AuditChain, folder: Path, progress: Progress = None) -> Exported:
    """Write the chain to ``folder``, up to its newest checkpoint; what is there already is gone on from.

    Everything that is written is read again and compared with the checkpoint, which comes last: until then the one that
    was there before holds, with all its tiles. ``progress`` is called with how many events are written, and of how
    many. Raises ConfigurationError for a folder that holds something else, IntegrityError when the folder is of another
    history of the trail, and when the trail does not fit its checkpoint; OSError.
    """
    if chain.store.head() is None:
        raise ConfigurationError("The trail has no checkpoint yet: run `audit init`.")
    folder.mkdir(exist_ok=True)
    with _locked(folder):
        note = str(chain.checkpoint_note())  # not before: another export may just have ended with a newer one
        head = Checkpoint.parse(parse_note(note)[0])
        there, lacking = _find_checkpoint(folder, head.origin), _lacking(chain, head.size)
        tree = _find_tree(folder, chain, there, head, lacking)
        if there.size < head.size:
            _write(folder, chain, tree, head, lacking=lacking, progress=progress)
            _put(folder / CHECKPOINT, note.encode(), durably=True)
            _sync(folder)
            # A crash from here on leaves partial tiles that nobody asks for.
            for tile in _replaced(there.size, head.size):
                _remove(folder, tile)
    whole_from = min((max(lacking, default=-1) + 1) * WIDTH, head.size)
    return Exported(head.size, there.size, len(lacking), whole_from)


def _lacking(chain: AuditChain, size: int) -> frozenset[int]:
    """The numbers of the bundles whose records are not all there, as a signed statement says."""
    ring = chain.keyring
    if ring is None or not ring.purges:
        return frozenset()
    left = chain.store.left(0, size)
    return frozenset(one.sequence // WIDTH for one in left if ring.is_purged(one.archive))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two at once would remove what the checkpoint of the other needs."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        if not try_lock_alone(fd):
            raise ConfigurationError(f"Another export is writing to {folder} just now: let it end.")
        yield
    finally:
        os.close(fd)


# --- What is there


def _find_checkpoint(folder: Path, origin: str) -> Checkpoint:
    """The one that the tiles there have; of nothing where there is none. Raises ConfigurationError."""
    for strange in _strangers(folder):
        raise ConfigurationError(f"The folder {folder} holds {strange}, which is no tile: give an empty folder.")
    try:
        found = Checkpoint.parse(parse_note((folder / CHECKPOINT).read_text(encoding="utf-8"))[0])
    except FileNotFoundError:  # an empty one, or an export that did not end: all of it is written again
        return Checkpoint(origin, 0, EMPTY_ROOT)
    except (IntegrityError, UnicodeDecodeError):
        raise ConfigurationError(f"The checkpoint in {folder} is none of a trail: give an empty folder.") from None
    if found.origin != origin:
        raise ConfigurationError(
            f"The folder {folder} holds the trail {found.origin}, and this one is {origin}: give an empty folder."
        )
    return found


def _strangers(folder: Path) -> Iterator[str]:
    yield from sorted({entry.name for entry in folder.iterdir()} - _OURS)
    if (tiles := folder / "tile").exists():
        yield from (f"tile/{each.name}" for each in tiles.iterdir() if not _LEVEL.fullmatch(each.name))


def _find_tree(
    folder: Path, chain: AuditChain, there: Checkpoint, head: Checkpoint, lacking: frozenset[int]
) -> TiledTree:
    """The tree of the tiles there. Its checkpoint needs no signature: the trail itself must extend it."""
    if there.size > head.size or chain.stored_root(there.size) != there.root:
        raise IntegrityError(
            f"The tiles in {folder} are of another history of this trail, of {there.size} events: run `audit verify "
            f"--checkpoint {folder / CHECKPOINT}`."
        )
    try:
        for tile in plan_tiles(there.size):
            _check_there(folder, tile, lacking)
        tree = TiledTree.from_edge(there.size, [(folder / tile.path).read_bytes() for tile in plan_edge(there.size)])
    except (FileNotFoundError, IntegrityError) as error:
        raise _changed(folder, error) from None
    if tree.root() != there.root:
        raise _changed(folder, "the last of them are others")
    return tree


def _check_there(folder: Path, tile: Tile, lacking: frozenset[int]) -> None:
    """Raises FileNotFoundError, IntegrityError. What full tiles hold is compared by whoever reads them."""
    size = (folder / tile.path).stat().st_size
    if size != tile.width * HASH_SIZE:
        raise IntegrityError(f"{tile.path} has {size} bytes")
    if tile.level == 0 and tile.number not in lacking and not (folder / tile.entries_path).stat().st_size:
        raise IntegrityError(f"{tile.entries_path} is empty")


def _changed(folder: Path, why: object) -> ConfigurationError:
    return ConfigurationError(
        f"The tiles in {folder} are not those of their checkpoint ({why}): somebody has changed them; give an empty "
        "folder."
    )


# --- Writing


def _write(
    folder: Path, chain: AuditChain, tree: TiledTree, head: Checkpoint, *, lacking: frozenset[int], progress: Progress
) -> None:
    """The tiles that are not there yet; none that is there changes. Raises IntegrityError as ``export_tiles`` does."""
    before, start, tree = tree.size, tree.without_partial(), tree.without_partial()
    for leaves, records in _bundles(chain, tree.size, head, lacking):
        if records is not None:
            _put(folder / Tile(0, tree.size // WIDTH, len(records)).entries_path, write_entries(records))
        for tile, data in tree.add(leaves):
            _put(folder / tile.path, data)
        if progress:
            progress(tree.size, head.size)
    if (tree.size, tree.root()) != (head.size, head.root):
        raise IntegrityError("What is stored is not what the newest checkpoint signs: run `audit verify`.")
    for tile, data in tree.edge():
        _put(folder / tile.path, data)
    _check_written(folder, start, head, lacking)
    for each in _folders(folder, before, head.size):
        _sync(each)


def _bundles(
    chain: AuditChain, start: int, head: Checkpoint, lacking: frozenset[int]
) -> Iterator[tuple[list[bytes], list[bytes] | None]]:
    """Leaves from ``start`` on, 256 at a time, with their records where no event among them was purged."""
    rows: Iterator[Row] | None = None
    while start < head.size:
        stop = min(start + WIDTH, head.size)
        if start // WIDTH in lacking:
            rows = None
            yield _stored_leaves(chain, start, stop), None
        else:
            rows = rows or iter(chain.whole.rows(start, head.size))
            records = _records(rows, stop - start, head.origin)
            yield list(map(leaf_hash, records)), records
        start = stop


def _records(rows: Iterator[Row], count: int, log: str) -> list[bytes]:
    """The next ones. Raises IntegrityError where a row is none."""
    try:
        return [encode_record(row[:-1], log) for row in islice(rows, count)]
    except (TypeError, ValueError, OverflowError):
        raise IntegrityError("An event was tampered with and is no record: run `audit verify`.") from None


def _stored_leaves(chain: AuditChain, start: int, stop: int) -> list[bytes]:
    """As the store has them: the signed root tells whether they are. Raises IntegrityError for what is no hash."""
    try:
        return list(map(bytes.fromhex, chain.store.leaf_hashes(start, stop)))
    except (TypeError, ValueError):
        raise IntegrityError("What is left of an event was tampered with: run `audit verify`.") from None


def _check_written(folder: Path, tree: TiledTree, head: Checkpoint, lacking: frozenset[int]) -> None:
    """From the records up, where they are there: that what lies there has the signed root. Raises IntegrityError."""
    while tree.size < head.size:
        bundle = Tile(0, tree.size // WIDTH, min(WIDTH, head.size - tree.size))
        for tile, data in tree.add(_read_leaves(folder, bundle, lacking)):
            _compare(folder, tile, data)
    for tile, data in tree.edge():
        _compare(folder, tile, data)
    if tree.root() != head.root:
        raise _unreadable(folder, "tile")


def _read_leaves(folder: Path, bundle: Tile, lacking: frozenset[int]) -> list[bytes]:
    if bundle.number in lacking:
        data = _read(folder / bundle.path)
        return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
    try:
        leaves = list(map(leaf_hash, read_entries(_read(folder / bundle.entries_path))))
    except IntegrityError:
        leaves = []
    if len(leaves) != bundle.width:
        raise _unreadable(folder, bundle.entries_path)
    return leaves


def _compare(folder: Path, tile: Tile, data: bytes) -> None:
    if _read(folder / tile.path) != data:
        raise _unreadable(folder, tile.path)


def _unreadable(folder: Path, path: str) -> IntegrityError:
    return IntegrityError(f"What was written to {folder / path} is not what lies there: check the disk, and try again.")


def _replaced(before: int, size: int) -> set[Tile]:
    """The partial tiles that have grown: the new checkpoint has others in their place."""
    return set(plan_edge(before)) - set(plan_edge(size))


def _remove(folder: Path, tile: Tile) -> None:
    for path in [tile.path, tile.entries_path] if tile.level == 0 else [tile.path]:
        (folder / path).unlink(missing_ok=True)
        parent = (folder / path).parent
        if parent.is_dir() and not any(parent.iterdir()):  # of a lacking bundle there was nothing
            parent.rmdir()


# --- Files


def _put(target: Path, data: bytes, *, durably: bool = False) -> None:
    """The whole file, or what was there before; unless ``durably``, a power cut may leave an empty one."""
    new = target.with_name(target.name + _NEW)
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(data)
    if durably:
        _sync(new)
    new.replace(target)


def _read(path: Path) -> bytes:
    """What lies there, and survives a power cut from now on."""
    _sync(path)
    return path.read_bytes()


def _folders(folder: Path, before: int, size: int) -> set[Path]:
    """Those in which there are new names."""
    paths = {Path(path).parent for tile in plan_tiles(size, before) for path in (tile.path, tile.entries_path)}
    return {folder / above for path in paths for above in (path, *path.parents) if (folder / above).exists()}


def _sync(path: Path) -> None:
    """What lies there survives a power cut; of a folder: the names in it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
