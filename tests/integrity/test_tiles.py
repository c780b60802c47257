"""Tiles of every tree up to a few hundred leaves and around the powers of 256, from any tree that it extends."""

from __future__ import annotations

from functools import cache

import pytest

from audit_core.errors import IntegrityError
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import EMPTY_ROOT, Frontier, subtree_root
from audit_core.integrity.tiles import WIDTH, Tile, TiledTree, plan_edge, plan_tiles, read_entries, write_entries

SMALL = 530
EDGES = [256**2 + more for more in (-257, -256, -255, -1, 0, 1, 255, 256, 257)]
LEAVES = [leaf_hash(b"record %d" % number) for number in range(max(EDGES))]


@cache
def level(height: int) -> list[bytes]:
    """The roots of all complete subtrees of 256^height leaves, by their definition."""
    below = LEAVES if height == 0 else level(height - 1)
    return below if height == 0 else [subtree_root(below[at - 256 : at]) for at in range(256, len(below) + 1, 256)]


def expected_tiles(size: int) -> dict[Tile, bytes]:
    """By the specification: each level cut into pieces of 256, the last of which may be shorter."""
    found = {}
    for height in range(3):
        hashes = level(height)[: size // 256**height]
        for at in range(0, len(hashes), 256):
            part = hashes[at : at + 256]
            found[Tile(height, at // 256, len(part))] = b"".join(part)
    return found


def cut(size: int, tree: TiledTree | None = None) -> tuple[TiledTree, dict[Tile, bytes]]:
    """The tree of this size, and what comes of cutting it from where ``tree`` ends."""
    tree = tree or TiledTree()
    found = {}
    for at in range(tree.size, size, WIDTH):
        found.update(tree.add(LEAVES[at : min(at + WIDTH, size)]))
    return tree, found | dict(tree.edge())


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(2, 999, 255), "tile/2/999.p/255"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(0, 1_234_067, 8), "tile/0/x001/x234/067.p/8"),
        (Tile(0, 1_000_000_000), "tile/0/x001/x000/x000/000"),
    ],
)
def test_a_tile_lies_where_the_specification_says(tile, path):
    assert tile.path == path
    assert tile.entries_path == path.replace(f"tile/{tile.level}", "tile/entries")


def test_every_tree_up_to_some_hundreds_is_cut_as_the_specification_says():
    frontier = Frontier()
    for size in range(SMALL):
        tree, found = cut(size)
        assert found == expected_tiles(size)
        assert set(plan_tiles(size)) == set(found)
        assert (tree.size, tree.root()) == (size, frontier.root())
        frontier.extend(LEAVES[size : size + 1])


@pytest.mark.parametrize("size", EDGES)
def test_a_tree_around_65536_is_cut_as_the_specification_says(size):
    tree, found = cut(size)
    assert found == expected_tiles(size)
    assert tree.root() == subtree_root(LEAVES[:size])


def test_the_example_of_the_specification():
    tiles = list(plan_tiles(70_000))
    full = [sum(tile.level == height and tile.width == 256 for tile in tiles) for height in range(3)]
    assert full == [273, 1, 0]
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(plan_edge(70_000)) == [tile for tile in tiles if tile.width < 256]


def grown(old: int, size: int) -> None:
    before = expected_tiles(old)
    edge = TiledTree.from_edge(old, [before[tile] for tile in plan_edge(old)])
    assert edge.root() == (subtree_root(LEAVES[:old]) if old else EMPTY_ROOT)
    tree, found = cut(size, edge.without_partial())
    after = expected_tiles(size)
    assert after.items() >= found.items()
    assert set(plan_tiles(size, old)) == after.keys() - before.keys() <= found.keys()
    assert tree.root() == subtree_root(LEAVES[:size])


def test_a_tree_grows_from_the_edge_of_every_smaller_one():
    for old in range(0, SMALL, 3):
        for more in (0, 1, 255, 256, 257):
            grown(old, old + more)


@pytest.mark.long
def test_a_tree_of_any_size_grows_to_any_other():
    for old in range(0, 300, 7):
        for size in range(old, SMALL):
            grown(old, size)


@pytest.mark.parametrize("size", EDGES)
def test_a_tree_grows_over_65536(size):
    grown(256**2 - 300, size)


def test_an_edge_of_another_length_is_refused():
    with pytest.raises(IntegrityError, match="expected 32 bytes, got 64"):
        TiledTree.from_edge(1, [b"x" * 64])


def test_records_come_out_of_a_bundle_as_they_went_in():
    records = [b"", b"a", b"\x00" * 65_535, b"two"]
    assert read_entries(write_entries(records)) == records
    assert write_entries([b"abc"]) == b"\x00\x03abc"


def test_a_bundle_that_is_cut_anywhere_but_between_records_is_refused():
    whole = write_entries([b"one", b"three"])
    for end in range(1, len(whole)):
        if end != 5:
            with pytest.raises(IntegrityError, match="in the midst"):
                read_entries(whole[:end])


def test_a_record_that_is_too_long_is_refused():
    with pytest.raises(IntegrityError, match="at most 65,535 bytes"):
        write_entries([b"x" * 65_536])
