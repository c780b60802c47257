"""Checkpoints: the exact three lines, who signed them, and for which chain."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import MAX_SIZE, Checkpoint, open_checkpoint
from audit_core.integrity.merkle import EMPTY_ROOT
from audit_core.integrity.note import VerifierKey, format_note, sign_text
from tests.integrity.keys import KEY, NAME, OURS, THEIRS

CHECKPOINT = Checkpoint(NAME, 20852163, bytes(range(32)))
SIGNATURE = CHECKPOINT.sign(OURS)
NOTE = CHECKPOINT.note(SIGNATURE)
TEXT = CHECKPOINT.text()
ROOT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

# The example of c2sp.org/tlog-checkpoint.
SPECIFIED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""


def test_the_example_of_the_specification_is_read_and_written_to_the_byte() -> None:
    checkpoint = Checkpoint.parse(SPECIFIED)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert checkpoint.text() == SPECIFIED


def test_a_signed_checkpoint_opens() -> None:
    assert open_checkpoint(NOTE, KEY) == CHECKPOINT
    assert CHECKPOINT.note(SIGNATURE) == f"{NAME}\n20852163\n{ROOT}\n\n— {NAME} {SIGNATURE}\n"


def test_a_checkpoint_of_the_empty_tree_opens() -> None:
    empty = Checkpoint(NAME, 0, EMPTY_ROOT)
    assert open_checkpoint(empty.note(empty.sign(OURS)), KEY) == empty


def test_a_checkpoint_with_any_bit_flipped_does_not_open() -> None:
    data = NOTE.encode()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((IntegrityError, UnicodeDecodeError)):
            open_checkpoint(flipped.decode(), KEY)


@given(st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_every_size_and_root_comes_back(size: int, root: bytes) -> None:
    assert Checkpoint.parse(Checkpoint(NAME, size, root).text()) == Checkpoint(NAME, size, root)


def test_the_signature_does_not_move_to_another_size_root_or_chain() -> None:
    others = [
        replace(CHECKPOINT, size=20852162),
        replace(CHECKPOINT, root=bytes(32)),
        replace(CHECKPOINT, origin="audit.example/other"),
    ]
    assert CHECKPOINT.is_signed_by(KEY, SIGNATURE)
    for other in others:
        assert not other.is_signed_by(KEY, SIGNATURE)
        assert not other.is_signed_by(VerifierKey(other.origin, OURS.public_key), SIGNATURE)
        with pytest.raises(IntegrityError):
            open_checkpoint(other.note(SIGNATURE), KEY)


def test_the_signature_of_another_key_does_not_count() -> None:
    assert not CHECKPOINT.is_signed_by(KEY, CHECKPOINT.sign(THEIRS))
    assert not CHECKPOINT.is_signed_by(VerifierKey(NAME, THEIRS.public_key), SIGNATURE)
    with pytest.raises(IntegrityError, match="no signature by the expected key"):
        open_checkpoint(CHECKPOINT.note(CHECKPOINT.sign(THEIRS)), KEY)


def test_a_key_of_another_name_does_not_count_even_if_it_signed() -> None:
    other = VerifierKey("audit.example/other", OURS.public_key)
    assert not CHECKPOINT.is_signed_by(other, sign_text(TEXT, other.name, OURS))


def test_a_checkpoint_that_the_key_of_another_chain_signed_is_not_that_chains() -> None:
    other = VerifierKey("audit.example/other", OURS.public_key)
    note = format_note(TEXT, [(other.name, sign_text(TEXT, other.name, OURS))])
    with pytest.raises(IntegrityError, match=f"expected audit.example/other, got {NAME}"):
        open_checkpoint(note, other)


def test_a_witness_may_sign_beside_the_chain() -> None:
    witness = ("witness.example", sign_text(TEXT, "witness.example", THEIRS))
    assert open_checkpoint(format_note(TEXT, [witness, (NAME, SIGNATURE)]), KEY) == CHECKPOINT


def test_the_signature_with_any_bit_flipped_or_character_changed_does_not_count() -> None:
    data = base64.b64decode(SIGNATURE)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not CHECKPOINT.is_signed_by(KEY, base64.b64encode(flipped).decode())
    for at in range(len(SIGNATURE)):
        for character in "AZaz09+/=\n é":
            changed = SIGNATURE[:at] + character + SIGNATURE[at + 1 :]
            assert CHECKPOINT.is_signed_by(KEY, changed) == (changed == SIGNATURE)


@pytest.mark.parametrize(
    "signature", ["", "=", "AAAA", "AAAAAA==", SIGNATURE + "\n", SIGNATURE * 2, "\udc80", "é" * 92]
)
def test_a_malformed_signature_does_not_count_and_is_not_written(signature: str) -> None:
    assert not CHECKPOINT.is_signed_by(KEY, signature)
    if signature != "AAAAAA==":
        with pytest.raises(IntegrityError):
            CHECKPOINT.note(signature)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "extension",
        TEXT + "\nextension\n",
        "\n" + TEXT,
        f"{NAME}\n1\n",
        f"{NAME}\n{ROOT}\n1\n",
        f"\n1\n{ROOT}\n",
        f"{NAME}\n\n{ROOT}\n",
        f"{NAME}\n1\n\n",
        f"{NAME}\r\n1\r\n{ROOT}\r\n",
        f"{NAME} x\n1\n{ROOT}\n",
        f"{NAME}+x\n1\n{ROOT}\n",
        f"{NAME}\n1\n {ROOT}\n",
        f"{NAME}\n1\n{ROOT[:-1]}\n",
        f"{NAME}\n1\n{ROOT[:-2]}9=\n",
        f"{NAME}\n1\n{ROOT[:-4]}\n",
        f"{NAME}\n1\n{ROOT[:-4]}AAAA\n",
        f"{NAME}\n1\n{'00' * 32}\n",
    ],
)
def test_a_text_of_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "size",
    [
        "01",
        "00",
        "-1",
        "+1",
        "-0",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "0x1",
        "1_000",
        "١",
        "²",
        "",
        str(MAX_SIZE + 1),
        "9" * 5000,
    ],
)
def test_a_size_in_any_other_form_is_refused(size: str) -> None:
    with pytest.raises(IntegrityError):
        Checkpoint.parse(f"{NAME}\n{size}\n{ROOT}\n")


def test_extension_lines_are_covered_by_the_signature_and_passed_over() -> None:
    text = f"{TEXT}extension\nanother\n"
    note = format_note(text, [(NAME, sign_text(text, NAME, OURS))])
    assert open_checkpoint(note, KEY) == CHECKPOINT
    with pytest.raises(IntegrityError, match="does not verify"):
        open_checkpoint(note.replace("another", "changed"), KEY)
    with pytest.raises(IntegrityError, match="does not verify"):
        open_checkpoint(NOTE.replace(f"{ROOT}\n", f"{ROOT}\nsmuggled in\n"), KEY)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", f"{NAME}\n1\n{ROOT}\n", "a\x00", "a\udc80"])
def test_an_origin_that_would_break_out_of_its_line_makes_no_checkpoint(origin: str) -> None:
    with pytest.raises(IntegrityError, match="key name"):
        Checkpoint(origin, 1, bytes(32))


@pytest.mark.parametrize(("size", "root"), [(-1, bytes(32)), (MAX_SIZE + 1, bytes(32)), (1, bytes(31)), (1, b"")])
def test_a_size_or_root_that_no_tree_has_makes_no_checkpoint(size: int, root: bytes) -> None:
    with pytest.raises(IntegrityError, match="of a tree"):
        Checkpoint(NAME, size, root)


@given(st.text())
def test_text_from_anywhere_is_refused_and_never_breaks_the_reader(text: str) -> None:
    with pytest.raises(IntegrityError):
        open_checkpoint(text, KEY)
