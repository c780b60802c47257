"""Notes: the known answer of the format, and every way to change one."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_core.errors import IntegrityError
from audit_core.integrity.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    VerifierKey,
    decode_base64,
    format_note,
    key_name_is_valid,
    open_note,
    parse_note,
    sign_text,
)
from tests.integrity.keys import KEY, NAME, OURS, THEIRS, SeedSigner

# The example of golang.org/x/mod/sumdb/note, from which the format comes.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NEUMANN_NOTE = f"{NEUMANN_TEXT}\n— PeterNeumann {NEUMANN_SIGNATURE}\n"

TEXT = "first line\n\nthird line, and an è\n"
SIGNATURE = sign_text(TEXT, NAME, OURS)
NOTE = format_note(TEXT, [(NAME, SIGNATURE)])
BASE64_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def flipped_notes(note: str) -> Iterator[str]:
    """The note with one bit flipped, for every bit; what is no UTF-8 any more never becomes a note."""
    data = note.encode()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            yield flipped.decode()
        except UnicodeDecodeError:
            continue


def opened_or_none(note: str, key: VerifierKey = KEY) -> str | None:
    try:
        return open_note(note, key)
    except IntegrityError:
        return None


class TestAKnownNote:
    def test_opens(self) -> None:
        assert open_note(NEUMANN_NOTE, VerifierKey.parse(NEUMANN)) == NEUMANN_TEXT

    def test_is_formatted_to_the_byte(self) -> None:
        assert format_note(NEUMANN_TEXT, [("PeterNeumann", NEUMANN_SIGNATURE)]) == NEUMANN_NOTE

    def test_comes_apart_and_together_again(self) -> None:
        text, signatures = parse_note(NEUMANN_NOTE)
        assert (text, signatures) == (NEUMANN_TEXT, [("PeterNeumann", NEUMANN_SIGNATURE)])

    def test_with_any_bit_flipped_does_not_open(self) -> None:
        key = VerifierKey.parse(NEUMANN)
        assert [note for note in flipped_notes(NEUMANN_NOTE) if opened_or_none(note, key) is not None] == []


class TestANote:
    def test_that_we_sign_opens(self) -> None:
        assert open_note(NOTE, KEY) == TEXT

    def test_with_any_bit_flipped_does_not_open(self) -> None:
        assert [note for note in flipped_notes(NOTE) if opened_or_none(note) is not None] == []

    def test_with_any_byte_taken_out_or_added_does_not_open(self) -> None:
        shorter = [NOTE[:at] + NOTE[at + 1 :] for at in range(len(NOTE)) if NOTE[at] != NOTE[at - 1]]
        longer = [NOTE[:at] + added + NOTE[at:] for at in range(len(NOTE) + 1) for added in "\n =A"]
        assert [note for note in shorter + longer if note != NOTE and opened_or_none(note) is not None] == []

    def test_whose_unknown_signature_has_any_bit_flipped_opens_with_its_text_or_not_at_all(self) -> None:
        theirs = sign_text(TEXT, "witness.example", THEIRS)
        for signatures in (
            [(NAME, SIGNATURE), ("witness.example", theirs)],
            [("witness.example", theirs), (NAME, SIGNATURE)],
        ):
            note = format_note(TEXT, signatures)
            assert open_note(note, KEY) == TEXT
            assert {opened_or_none(flipped) for flipped in flipped_notes(note)} == {TEXT, None}

    def test_that_only_others_signed_does_not_open(self) -> None:
        note = format_note(TEXT, [("witness.example", sign_text(TEXT, "witness.example", THEIRS))])
        with pytest.raises(IntegrityError, match=r"no signature by the expected key .*got \['witness.example'\]"):
            open_note(note, KEY)

    def test_signed_by_another_key_of_our_name_does_not_open(self) -> None:
        with pytest.raises(IntegrityError, match="no signature by the expected key"):
            open_note(format_note(TEXT, [(NAME, sign_text(TEXT, NAME, THEIRS))]), KEY)

    def test_signed_by_our_key_under_another_name_does_not_open(self) -> None:
        with pytest.raises(IntegrityError, match="no signature by the expected key"):
            open_note(format_note(TEXT, [("other.example", sign_text(TEXT, "other.example", OURS))]), KEY)

    def test_with_a_forged_signature_beside_the_good_one_does_not_open(self) -> None:
        forged = base64.b64encode(KEY.key_hash + THEIRS.sign(TEXT.encode())).decode()
        for signatures in ([(NAME, SIGNATURE), (NAME, forged)], [(NAME, forged), (NAME, SIGNATURE)]):
            with pytest.raises(IntegrityError, match="does not verify"):
                open_note(format_note(TEXT, signatures), KEY)

    def test_with_our_signature_of_another_text_does_not_open(self) -> None:
        with pytest.raises(IntegrityError, match="does not verify"):
            open_note(format_note("another text\n", [(NAME, SIGNATURE)]), KEY)

    @pytest.mark.parametrize("length", [1, 63, 65, 128])
    def test_with_a_signature_of_another_length_does_not_open(self, length: int) -> None:
        encoded = base64.b64encode(KEY.key_hash + bytes(length)).decode()
        with pytest.raises(IntegrityError, match="does not verify"):
            open_note(format_note(TEXT, [(NAME, encoded)]), KEY)

    def test_whose_text_ends_in_empty_lines_or_looks_like_a_note_keeps_it(self) -> None:
        for text in ("a\n\n\n", "\n", "\n\n", NOTE, "a\u2028b\u0085c\n"):
            note = format_note(text, [(NAME, sign_text(text, NAME, OURS))])
            assert open_note(note, KEY) == text

    def test_with_a_second_block_of_signatures_is_another_text(self) -> None:
        attack = f"{NOTE}\n— witness.example {sign_text(NOTE, 'witness.example', THEIRS)}\n"
        assert parse_note(attack)[0] == NOTE
        assert opened_or_none(attack) is None

    @given(st.text())
    def test_from_anywhere_is_refused_and_never_breaks_the_reader(self, text: str) -> None:
        assert opened_or_none(text) is None
        assert opened_or_none(text + "\n\n" + text + "\n") is None


class TestTheForm:
    @pytest.mark.parametrize(
        "note",
        [
            "",
            "\n",
            "\n\n",
            TEXT,
            TEXT + "\n",
            NOTE[:-1],
            NOTE + "\n",
            NOTE + "more\n",
            NOTE.replace("— ", "- "),
            NOTE.replace("— ", "—"),
            NOTE.replace("— ", "—\u00a0"),
            NOTE.replace("— ", " — "),
            NOTE.replace("— ", "—  "),
            NOTE.replace("\n—", "—"),
            NOTE.replace("\n", "\r\n"),
            NOTE.replace(NAME, ""),
            NOTE.replace(NAME, "a+b"),
            NOTE.replace(NAME, "a\u2003b"),
            NOTE.replace(f" {SIGNATURE}", ""),
            NOTE.replace(SIGNATURE, ""),
            NOTE.replace(SIGNATURE, "AAAAAA=="),
            NOTE.replace(SIGNATURE, SIGNATURE + " "),
            NOTE.replace(SIGNATURE, SIGNATURE + "="),
            NOTE.replace(SIGNATURE, SIGNATURE.rstrip("=")),
            NOTE.replace(SIGNATURE, SIGNATURE.replace("/", "_").replace("+", "-") + "-"),
            NOTE.replace("first", "fir\udc80st"),
        ],
    )
    def test_of_anything_else_is_refused(self, note: str) -> None:
        with pytest.raises(IntegrityError):
            parse_note(note)

    @pytest.mark.parametrize("code", sorted({*range(0x20)} - {0x0A}))
    def test_has_no_control_characters(self, code: int) -> None:
        with pytest.raises(IntegrityError, match="control characters"):
            parse_note(NOTE.replace("first", f"fir{chr(code)}st"))
        with pytest.raises(IntegrityError, match="control characters"):
            sign_text(f"a{chr(code)}\n", NAME, OURS)
        with pytest.raises(IntegrityError, match="control characters"):
            format_note(f"a{chr(code)}\n", [(NAME, SIGNATURE)])

    def test_has_100_signatures_and_not_one_more(self) -> None:
        many = [("witness.example", SIGNATURE)] * (MAX_SIGNATURES - 1)
        assert open_note(format_note(TEXT, [*many, (NAME, SIGNATURE)]), KEY) == TEXT
        with pytest.raises(IntegrityError, match="at most 100 signatures, got 101"):
            parse_note(format_note(TEXT, [*many, (NAME, SIGNATURE)]) + f"— {NAME} {SIGNATURE}\n")

    def test_is_a_million_bytes_long_and_not_one_more(self) -> None:
        room = MAX_NOTE_BYTES - len(format_note("\n", [(NAME, SIGNATURE)]).encode())
        text = "è" * (room // 2) + "a" * (room % 2) + "\n"
        note = format_note(text, [(NAME, SIGNATURE)])
        assert len(note.encode()) == MAX_NOTE_BYTES
        with pytest.raises(IntegrityError, match="at most 1000000 bytes, got 1000001"):
            parse_note("a" + note)
        with pytest.raises(IntegrityError, match="at most 1000000 bytes, got 1000001"):
            format_note("a" + text, [(NAME, SIGNATURE)])

    @pytest.mark.parametrize("text", ["", "no newline", "two\nlines"])
    def test_ends_its_text_in_a_newline(self, text: str) -> None:
        with pytest.raises(IntegrityError, match="ends in a newline"):
            sign_text(text, NAME, OURS)
        with pytest.raises(IntegrityError, match="ends in a newline"):
            format_note(text, [(NAME, SIGNATURE)])

    @pytest.mark.parametrize(
        "signatures",
        [
            [],
            [("", SIGNATURE)],
            [("a b", SIGNATURE)],
            [("a+b", SIGNATURE)],
            [(NAME, "")],
            [(NAME, "AAAA")],
            [(NAME, SIGNATURE + "\n")],
            [(NAME, f"{SIGNATURE}\n— {NAME} {SIGNATURE}")],
            [(f"{NAME} {SIGNATURE}\n— {NAME}", SIGNATURE)],
            [(NAME, f"{SIGNATURE}\n\n— {NAME} {SIGNATURE}")],
        ],
    )
    def test_is_not_written_when_it_could_not_be_read_back(self, signatures: list[tuple[str, str]]) -> None:
        with pytest.raises(IntegrityError):
            format_note(TEXT, signatures)


class TestBase64:
    @given(st.binary())
    def test_in_its_canonical_form_is_read(self, data: bytes) -> None:
        assert decode_base64(base64.b64encode(data).decode()) == data

    @given(st.binary(max_size=70), st.data())
    def test_with_any_character_changed_is_other_data_or_refused(self, data: bytes, draw: st.DataObject) -> None:
        encoded = base64.b64encode(data + b"!").decode()
        at = draw.draw(st.integers(0, len(encoded) - 1))
        changed = encoded[:at] + draw.draw(st.sampled_from(BASE64_ALPHABET)) + encoded[at + 1 :]
        try:
            assert (decode_base64(changed) == data + b"!") == (changed == encoded)
        except IntegrityError:
            assert changed != encoded

    @pytest.mark.parametrize(
        "text", ["AB==", "AAB=", "AA", "AA=", "A", "AA==\n", " AA==", "AA==AA==", "AA-_", "é===", "=", "===="]
    )
    def test_in_any_other_form_is_refused(self, text: str) -> None:
        with pytest.raises(IntegrityError, match="not canonical base64"):
            decode_base64(text)


class TestAVerifierKey:
    def test_comes_back_from_its_text(self) -> None:
        assert VerifierKey.parse(str(KEY)) == KEY
        assert str(VerifierKey.parse(NEUMANN)) == NEUMANN
        assert VerifierKey.parse(NEUMANN).key_hash.hex() == "c74f20a3"

    def test_whose_base64_holds_a_plus_comes_back_too(self) -> None:
        for seed in range(30):
            key = VerifierKey(NAME, SeedSigner(seed).public_key)
            assert VerifierKey.parse(str(key)) == key

    def test_with_any_bit_of_its_text_flipped_is_refused(self) -> None:
        for text in flipped_notes(str(KEY)):
            with pytest.raises(IntegrityError):
                VerifierKey.parse(text)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", r"reads name\+hash\+key"),
            ("name", r"reads name\+hash\+key"),
            ("name+c74f20a3", r"reads name\+hash\+key"),
            (NEUMANN.replace("PeterNeumann", ""), "key name is not empty"),
            (NEUMANN.replace("PeterNeumann", "Peter Neumann"), "no spaces"),
            (NEUMANN.replace("PeterNeumann", "Paul"), "wrong hash: expected 47e9ac5f, got 'c74f20a3'"),
            (NEUMANN.replace("c74f20a3", "C74F20A3"), "wrong hash"),
            (NEUMANN.replace("c74f20a3", "c74f20"), "wrong hash"),
            (NEUMANN.replace("c74f20a3", ""), "wrong hash"),
            (NEUMANN + "\n", "not canonical base64"),
            (NEUMANN + "AAAA", "has 32 bytes, got 35"),
            (NEUMANN[:-4], "has 32 bytes, got 29"),
            (NEUMANN.replace("+AR", "+BR"), r"type 01 \(Ed25519\), got 05"),
            ("name+c74f20a3+", r"type 01 \(Ed25519\), got nothing"),
        ],
    )
    def test_in_any_other_form_is_refused_with_the_reason(self, text: str, sentence: str) -> None:
        with pytest.raises(IntegrityError, match=sentence):
            VerifierKey.parse(text)

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_of_another_length_is_refused(self, length: int) -> None:
        with pytest.raises(IntegrityError, match=f"has 32 bytes, got {length}"):
            VerifierKey(NAME, bytes(length))

    def test_verifies_its_own_signatures_and_no_others(self) -> None:
        assert KEY.verifies(b"message", OURS.sign(b"message"))
        assert not KEY.verifies(b"massage", OURS.sign(b"message"))
        assert not KEY.verifies(b"message", THEIRS.sign(b"message"))
        assert not KEY.verifies(b"message", b"")

    @pytest.mark.parametrize("name", ["a", NAME, "quasimodo.example/salvatore", "été", "a-b_c.d/e:f"])
    def test_may_be_named(self, name: str) -> None:
        assert key_name_is_valid(name)

    @pytest.mark.parametrize(
        "name", ["", " ", "a b", "a\n", "a\tb", "a+b", "a\u00a0b", "a\u2028", "\u3000", "a\x00", "a\udc80"]
    )
    def test_may_not_be_named(self, name: str) -> None:
        assert not key_name_is_valid(name)
        with pytest.raises(IntegrityError, match="key name"):
            VerifierKey(name, OURS.public_key)
        with pytest.raises(IntegrityError, match="key name"):
            sign_text(TEXT, name, OURS)


class BrokenSigner(SeedSigner):
    """An HSM that answers with something else."""

    def sign(self, message: bytes) -> bytes:
        return super().sign(message)[:-1]


def test_a_signer_that_makes_no_ed25519_signature_is_noticed_before_anything_is_written() -> None:
    with pytest.raises(IntegrityError, match="expected 64 bytes, got 63"):
        sign_text(TEXT, NAME, BrokenSigner(1))


# Every encoding of the eight points of small order, beyond the prime too; each with both signs of x.
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("encoded", SMALL)
def test_a_key_under_which_anybody_can_sign_is_none(encoded, sign):
    raw = bytes.fromhex(encoded)
    raw = raw[:-1] + bytes([raw[-1] | sign])
    with pytest.raises(IntegrityError, match="can be made by anybody"):
        VerifierKey("example.com/clinic", raw)


def test_an_honest_key_is_never_called_one_of_those():
    for seed in range(256):
        assert VerifierKey("example.com/clinic", SeedSigner(seed).public_key)
