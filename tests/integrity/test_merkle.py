"""Every leaf of every tree up to 100, every pair of sizes up to 100, and every bit of their proofs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import tamperlog  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from audit_core.errors import IntegrityError
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    node_hash,
    plan_consistency,
    plan_inclusion,
    subtree_root,
)

LARGEST = 100
SIZES_FOR_BIT_FLIPS = range(1, 21)
LEAVES = [leaf_hash(b"record %d" % number) for number in range(LARGEST)]

# Published with certificate-transparency, and in many a log since.
KNOWN_LEAVES = [
    leaf_hash(bytes.fromhex(record))
    for record in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH, word for word from RFC 9162, 2.1.1."""
    if len(leaves) == 0:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


@cache
def root_of(start: int, stop: int) -> bytes:
    return subtree_root(LEAVES[start:stop])


def inclusion_proof(index: int, size: int) -> list[bytes]:
    return [root_of(*part) for part in plan_inclusion(index, size)]


def consistency_proof(old_size: int, size: int) -> list[bytes]:
    return [root_of(*part) for part in plan_consistency(old_size, size)]


def flips(data: bytes) -> Iterator[bytes]:
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def flipped_proofs(proof: list[bytes]) -> Iterator[list[bytes]]:
    for place, sibling in enumerate(proof):
        for flipped in flips(sibling):
            yield [*proof[:place], flipped, *proof[place + 1 :]]


def misshapen_proofs(proof: list[bytes]) -> Iterator[list[bytes]]:
    """One hash more or less at every place, two hashes grown together, and hashes that are not 32 bytes."""
    for place in range(len(proof) + 1):
        yield [*proof[:place], LEAVES[0], *proof[place:]]
    for place, sibling in enumerate(proof):
        yield proof[:place] + proof[place + 1 :]
        for wrong in (b"", sibling[:-1], sibling + b"\x00", sibling + sibling, sibling.hex().encode()):
            yield [*proof[:place], wrong, *proof[place + 1 :]]
        yield [*proof[:place], sibling[:16], sibling[16:], *proof[place + 1 :]]
    for place in range(len(proof) - 1):
        one, other = proof[place], proof[place + 1]
        yield [*proof[:place], one + other[:1], other[1:], *proof[place + 2 :]]
        yield [*proof[:place], other[-1:] + one, other[:-1], *proof[place + 2 :]]


def refused(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except IntegrityError:
        return True
    return False


class TestTheRoot:
    @pytest.mark.parametrize("size", range(9))
    def test_is_the_one_that_certificate_transparency_publishes(self, size: int) -> None:
        assert subtree_root(KNOWN_LEAVES[:size]).hex() == KNOWN_ROOTS[size]

    def test_of_every_tree_up_to_100_is_what_the_rfc_and_another_implementation_compute(self) -> None:
        for size in range(LARGEST + 1):
            leaves = LEAVES[:size]
            assert subtree_root(leaves) == naive_root(leaves) == tamperlog.merkle_root(leaves)

    @pytest.mark.parametrize("size", [2047, 2048, 2049, 4096, 6145])
    def test_does_not_depend_on_where_a_batch_ends(self, size: int) -> None:
        leaves = [number.to_bytes(32, "big") for number in range(size)]
        assert subtree_root(leaves) == naive_root(leaves)

    def test_of_an_empty_tree_is_the_hash_of_nothing(self) -> None:
        assert Frontier().root() == EMPTY_ROOT == tamperlog.empty_root()


class TestTheFrontier:
    def test_split_at_every_point_gives_the_tree_of_the_whole(self) -> None:
        for size in range(LARGEST + 1):
            for split in range(size + 1):
                frontier = Frontier()
                frontier.extend(LEAVES[:split])
                frontier.extend(iter(LEAVES[split:size]))
                assert (frontier.size, frontier.root()) == (size, root_of(0, size))

    def test_one_by_one_is_the_frontier_of_all_at_once(self) -> None:
        slow = Frontier()
        for size, leaf in enumerate(LEAVES, start=1):
            slow.extend([leaf])
            fast = Frontier()
            fast.extend(LEAVES[:size])
            assert slow == fast

    @given(st.lists(st.integers(0, 3000), max_size=5))
    def test_cut_into_any_batches_is_the_frontier_of_all_at_once(self, batches: list[int]) -> None:
        leaves = [number.to_bytes(32, "big") for number in range(sum(batches))]
        cut, whole, at = Frontier(), Frontier(), 0
        for batch in batches:
            cut.extend(leaves[at : at + batch])
            at += batch
        whole.extend(leaves)
        assert cut == whole

    def test_holds_the_roots_of_the_complete_subtrees_largest_first(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:13])
        assert frontier.hashes == [root_of(0, 8), root_of(8, 12), LEAVES[12]]

    def test_survives_being_stored_and_read_back_and_goes_on_from_there(self) -> None:
        for size in range(LARGEST):
            frontier = Frontier()
            frontier.extend(LEAVES[:size])
            restored = Frontier.from_bytes(size, frontier.to_bytes())
            assert restored == frontier
            restored.extend(LEAVES[size:])
            assert restored.root() == root_of(0, LARGEST)

    def test_stored_with_another_size_or_cut_short_is_refused(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:13])
        data = frontier.to_bytes()
        wrong = [
            (12, data),
            (-13, data),
            (-1, b""),
            (13, data[:-1]),
            (13, data + b"\x00"),
            (13, b""),
            (0, data),
        ]
        for size, stored in wrong:
            with pytest.raises(IntegrityError, match=r"expected \d+ bytes, got"):
                Frontier.from_bytes(size, stored)

    def test_changed_in_any_bit_gives_another_root(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:13])
        for stored in flips(frontier.to_bytes()):
            assert Frontier.from_bytes(13, stored).root() != root_of(0, 13)

    def test_of_a_copy_grows_alone(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:7])
        copy = frontier.copy()
        copy.extend([LEAVES[7]])
        assert (frontier.size, frontier.root()) == (7, root_of(0, 7))
        assert copy != frontier

    def test_of_the_same_size_over_other_leaves_is_not_equal(self) -> None:
        one, other = Frontier(), Frontier()
        one.extend([LEAVES[0]])
        other.extend([LEAVES[1]])
        assert one != other

    @pytest.mark.parametrize("wrong", [b"", LEAVES[0][:-1], LEAVES[0] + b"\x00", LEAVES[0].hex().encode()])
    def test_takes_nothing_of_a_batch_with_a_leaf_that_is_no_hash(self, wrong: bytes) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:7])
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {len(wrong)}"):
            frontier.extend([*LEAVES[7:20], wrong])
        assert (frontier.size, frontier.root()) == (7, root_of(0, 7))


class TestInclusion:
    def test_of_every_leaf_of_every_tree_up_to_100_holds(self) -> None:
        for size in range(1, LARGEST + 1):
            root = root_of(0, size)
            for index in range(size):
                proof = inclusion_proof(index, size)
                check_inclusion(LEAVES[index], index, size, proof, root)
                tamperlog.verify_inclusion(index, size, LEAVES[index], proof, root)

    def test_proofs_are_those_of_another_implementation(self) -> None:
        for size in range(1, 41):
            for index in range(size):
                assert inclusion_proof(index, size) == tamperlog.inclusion_proof(index, LEAVES[:size])

    @pytest.mark.parametrize(
        ("index", "size", "plan"),
        [
            (0, 7, [(1, 2), (2, 4), (4, 7)]),  # RFC 9162, 2.1.5: b, h, l
            (3, 7, [(2, 3), (0, 2), (4, 7)]),  # c, g, l
            (4, 7, [(5, 6), (6, 7), (0, 4)]),  # f, j, k
            (6, 7, [(4, 6), (0, 4)]),  # i, k
            (0, 1, []),
        ],
    )
    def test_plans_are_those_of_the_rfc_example(self, index: int, size: int, plan: list[tuple[int, int]]) -> None:
        assert plan_inclusion(index, size) == plan

    def test_with_any_bit_of_any_proof_hash_flipped_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            root = root_of(0, size)
            for index in range(size):
                for proof in flipped_proofs(inclusion_proof(index, size)):
                    assert refused(check_inclusion, LEAVES[index], index, size, proof, root)

    def test_of_a_changed_leaf_or_in_a_changed_root_is_refused(self) -> None:
        proof, root = inclusion_proof(5, 13), root_of(0, 13)
        for leaf in flips(LEAVES[5]):
            assert refused(check_inclusion, leaf, 5, 13, proof, root)
        for changed in flips(root):
            assert refused(check_inclusion, LEAVES[5], 5, 13, proof, changed)

    def test_at_any_other_index_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            for index in range(size):
                proof, root = inclusion_proof(index, size), root_of(0, size)
                for other in {*range(-2, size + 40), 2**64 + index} - {index}:
                    assert refused(check_inclusion, LEAVES[index], other, size, proof, root)

    def test_with_too_few_too_many_or_misshapen_hashes_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            root = root_of(0, size)
            for index in range(size):
                for proof in misshapen_proofs(inclusion_proof(index, size)):
                    assert refused(check_inclusion, LEAVES[index], index, size, proof, root)

    def test_with_the_hashes_in_another_order_is_refused(self) -> None:
        proof = inclusion_proof(5, 16)
        for place in range(len(proof) - 1):
            swapped = [*proof]
            swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
            assert refused(check_inclusion, LEAVES[5], 5, 16, swapped, root_of(0, 16))

    def test_of_an_inner_node_that_is_passed_off_as_a_leaf_is_refused(self) -> None:
        node, proof = root_of(0, 2), inclusion_proof(0, 8)[1:]
        check_inclusion(node, 0, 4, proof, root_of(0, 8))  # in another tree it would be one: the size must be signed
        for index in range(8):
            assert refused(check_inclusion, node, index, 8, proof, root_of(0, 8))

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_of_a_leaf_or_root_that_is_no_hash_is_refused(self, length: int) -> None:
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
            check_inclusion(bytes(length), 0, 1, [], LEAVES[0])
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
            check_inclusion(LEAVES[0], 0, 1, [], bytes(length))

    @pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (6, 5), (0, 0), (0, -1), (-1, -1), (-2, -1)])
    def test_in_a_tree_without_that_leaf_cannot_be_planned_or_checked(self, index: int, size: int) -> None:
        with pytest.raises(IntegrityError, match=f"size {size} has no leaf {index}"):
            plan_inclusion(index, size)
        with pytest.raises(IntegrityError, match=f"size {size} has no leaf {index}"):
            check_inclusion(LEAVES[0], index, size, [], LEAVES[0])

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_with_a_proof_hash_that_is_no_hash_says_so(self, length: int) -> None:
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
            check_inclusion(LEAVES[0], 0, 2, [bytes(length)], root_of(0, 2))
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
            check_consistency(1, 2, [bytes(length)], LEAVES[0], root_of(0, 2))

    def test_message_gives_expected_and_got(self) -> None:
        with pytest.raises(IntegrityError, match=f"expected root {'00' * 32}, got {LEAVES[0].hex()}"):
            check_inclusion(LEAVES[0], 0, 1, [], bytes(32))
        with pytest.raises(IntegrityError, match="expected 4 hashes, got 1"):
            check_inclusion(LEAVES[0], 0, 16, LEAVES[:1], LEAVES[0])

    def test_in_the_largest_tree_takes_63_hashes(self) -> None:
        assert len(plan_inclusion(0, 2**63)) == len(plan_inclusion(2**63 - 1, 2**63)) == 63


class TestConsistency:
    def test_of_every_pair_of_sizes_up_to_100_holds(self) -> None:
        for size in range(LARGEST + 1):
            root = root_of(0, size)
            for old_size in range(size + 1):
                proof, old_root = consistency_proof(old_size, size), root_of(0, old_size)
                check_consistency(old_size, size, proof, old_root, root)
                tamperlog.verify_consistency(old_size, old_root, size, root, proof)

    def test_proofs_are_those_of_another_implementation(self) -> None:
        for size in range(41):
            for old_size in range(size + 1):
                assert consistency_proof(old_size, size) == tamperlog.consistency_proof(old_size, LEAVES[:size])

    @pytest.mark.parametrize(
        ("old_size", "size", "plan"),
        [
            (3, 7, [(2, 3), (3, 4), (0, 2), (4, 7)]),  # RFC 9162, 2.1.5: c, d, g, l
            (4, 7, [(4, 7)]),  # l
            (6, 7, [(4, 6), (6, 7), (0, 4)]),  # i, j, k
            (7, 7, []),
            (0, 7, []),
            (0, 0, []),
        ],
    )
    def test_plans_are_those_of_the_rfc_example(self, old_size: int, size: int, plan: list[tuple[int, int]]) -> None:
        assert plan_consistency(old_size, size) == plan

    def test_with_any_bit_of_any_proof_hash_flipped_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            for old in range(size + 1):
                roots = root_of(0, old), root_of(0, size)
                for proof in flipped_proofs(consistency_proof(old, size)):
                    assert refused(check_consistency, old, size, proof, *roots)

    def test_with_any_bit_of_either_root_flipped_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            root = root_of(0, size)
            for old in range(1, size + 1):
                proof, old_root = consistency_proof(old, size), root_of(0, old)
                for wrong in flips(old_root):
                    assert refused(check_consistency, old, size, proof, wrong, root)
                for wrong in flips(root):
                    assert refused(check_consistency, old, size, proof, old_root, wrong)

    def test_with_too_few_too_many_or_misshapen_hashes_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            for old in range(size + 1):
                roots = root_of(0, old), root_of(0, size)
                for proof in misshapen_proofs(consistency_proof(old, size)):
                    assert refused(check_consistency, old, size, proof, *roots)

    def test_with_any_other_old_size_is_refused(self) -> None:
        for size in SIZES_FOR_BIT_FLIPS:
            for old in range(1, size + 1):
                proof, roots = consistency_proof(old, size), (root_of(0, old), root_of(0, size))
                for other in {*range(-2, size + 3)} - {old}:
                    assert refused(check_consistency, other, size, proof, *roots)

    def test_of_a_rewritten_history_is_refused(self) -> None:
        """The operator changes one record, computes all afresh, and shows an honest proof of the new tree."""
        for changed in range(13):
            forged = [*LEAVES[:changed], leaf_hash(b"forged"), *LEAVES[changed + 1 : 20]]
            proof = [subtree_root(forged[start:stop]) for start, stop in plan_consistency(13, 20)]
            assert refused(check_consistency, 13, 20, proof, root_of(0, 13), subtree_root(forged))

    def test_of_a_tree_that_lost_its_last_records_is_refused(self) -> None:
        with pytest.raises(IntegrityError, match="size 12 cannot extend one of size 13"):
            check_consistency(13, 12, [], root_of(0, 13), root_of(0, 12))

    def test_with_the_empty_tree_needs_an_empty_proof_and_its_one_root(self) -> None:
        check_consistency(0, 7, [], EMPTY_ROOT, root_of(0, 7))
        check_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
        with pytest.raises(IntegrityError, match="expected 0 hashes, got 1"):
            check_consistency(0, 7, [LEAVES[0]], EMPTY_ROOT, root_of(0, 7))
        for size, old_root, root in (
            (7, LEAVES[0], root_of(0, 7)),
            (0, LEAVES[0], LEAVES[0]),
            (0, EMPTY_ROOT, LEAVES[0]),
        ):
            with pytest.raises(IntegrityError, match="expected root"):
                check_consistency(0, size, [], old_root, root)

    def test_of_a_tree_with_itself_needs_an_empty_proof_and_one_root(self) -> None:
        for size in range(1, LARGEST + 1):
            root = root_of(0, size)
            check_consistency(size, size, [], root, root)
            assert refused(check_consistency, size, size, [root], root, root)
            assert refused(check_consistency, size, size, [], root, root_of(0, size - 1))

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_of_roots_that_are_no_hashes_is_refused(self, length: int) -> None:
        for old_size, size in ((0, 7), (7, 7)):
            with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
                check_consistency(old_size, size, [], bytes(length), bytes(length))
        with pytest.raises(IntegrityError, match=f"expected 32 bytes, got {length}"):
            check_consistency(0, 7, [], EMPTY_ROOT, bytes(length))

    @pytest.mark.parametrize(("old_size", "size"), [(-1, 5), (6, 5), (0, -1), (-2, -1), (-1, -1), (2**63, 5)])
    def test_of_sizes_that_no_two_trees_have_cannot_be_planned_or_checked(self, old_size: int, size: int) -> None:
        with pytest.raises(IntegrityError, match=f"size {size} cannot extend one of size {old_size}"):
            plan_consistency(old_size, size)
        with pytest.raises(IntegrityError, match=f"size {size} cannot extend one of size {old_size}"):
            check_consistency(old_size, size, [], EMPTY_ROOT, EMPTY_ROOT)
