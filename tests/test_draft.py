import json
import random
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from audit_core import canonical, draft
from audit_core.canonical import MAX_RECORD_BYTES, RECORD_COLUMNS, encode_record
from audit_core.draft import DRAFT_COLUMNS, draft_of, event_of, parse_draft, place
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.integrity.link import GENESIS_HASH
from audit_core.normalise import DETAILS_BUDGET, FIELD_LIMITS, fit
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.rows import to_json
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain, make_event
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables

NESTED_33 = json.loads('{"a":' * 33 + "1" + "}" * 33)
ARRAYS_33 = {"a": json.loads("[" * 32 + "]" * 32)}
NO_TEXT = [0, 5, -1, 2**53, 2**64, 2**70, 10**400, 1.5, True, False, [], ["x"], {}, {"x": "x"}]
BAD_TEXT = ["a\0b", "\ud800", "a\udfffb", "x" * 66_000]
NULLABLE = [name for name in DRAFT_COLUMNS if name in canonical.NULLABLE]
UUID = "0192f0c1-0000-7000-8000-00000000000a"


@pytest.mark.parametrize(
    ("choice", "words"),
    [(Outcome, "success, failure, denied"), (ActorType, "user, admin, service, system, anonymous")],
)
def test_a_word_that_is_none_is_refused_with_those_that_are(choice, words):
    with pytest.raises(ValueError, match=f"^'robot' is no {choice.__name__}: choose from {words}.$"):
        choice("robot")


WRONG = {name: [*NO_TEXT, *BAD_TEXT] for name in NULLABLE} | {
    "action": [*NO_TEXT, *BAD_TEXT, None],
    "private": [*NO_TEXT, *BAD_TEXT, None],
    "event_id": [
        *NO_TEXT, *BAD_TEXT, None, "", "x", UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}",
        f"{UUID}\n", f" {UUID}", UUID[:-1], f"{UUID}0", UUID.replace("a", "g"), UUID.replace("1", "\uff11"),
    ],
    "timestamp": [
        *NO_TEXT, *BAD_TEXT, None, "", "now", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.000000", "2026-01-01T00:00:00.000000+00:00", "2026-01-01T00:00:00.000000z",
        "2026-01-01 00:00:00.000000Z", "2026-01-01T00:00:00,000000Z", "2026-01-01T00:00:00.000000Z\n",
        "2026-02-29T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "0000-01-01T00:00:00.000000Z",
        "2026-01-01T24:00:00.000000Z", "2026-01-01T00:60:00.000000Z", "2026-01-01T23:59:60.000000Z",
        "2026-W01-1T00:00:00.000000Z", "\u0662026-01-01T00:00:00.000000Z",
    ],
    "actor_type": [*NO_TEXT, *BAD_TEXT, None, "", "robot", "User", "user ", "success", "ActorType.USER"],
    "outcome": [*NO_TEXT, *BAD_TEXT, None, "", "ok", "Success", "success\n", "user", "Outcome.SUCCESS"],
    "details": [
        None, "", "{}", 5, 1.5, True, [], [{}], {"a": 1.5}, {"a": 1e300}, {"a": -0.0}, {"a": 2**53}, {"a": -(2**53)},
        {"a": 2**64}, {"a": 10**400}, {"a": [{"b": 2**53}]}, {"a": [0.5]}, {"a": "\0"}, {"a": "\ud800"},
        {"a": ["\udc00"]}, {"a\0": 1}, {"\ud800": 1}, {"\U0001f600": 1}, {"a": {"\U0001f600": 1}}, NESTED_33, ARRAYS_33,
        {"a": "x" * 64_500}, {"a": [1] * 32_500},
    ],
}  # fmt: skip
MISSING = object()


@pytest.fixture(params=["orjson", "json"])
def codec(request, monkeypatch):
    """What reads the outbox, with the extra ``speed`` and without."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
    for name in ("encode", "decode", "encode_record"):
        monkeypatch.setattr(draft, name, getattr(canonical, f"_{name}_with_{request.param}"))


@pytest.fixture
def place_of_work(tmp_path):
    database = SqliteDatabase(tmp_path / "app.db")
    store, outbox = SqliteStore(database), SqliteOutbox(database)
    store.create()
    outbox.create()
    chain = make_chain(store)
    yield SimpleNamespace(chain=chain, outbox=outbox, sealer=Sealer(chain, [outbox], Tables(store, [outbox])))
    database.close()


def forged(name, value):
    fields = json.loads(to_json(make_event(details={"number": 1})))
    fields[name] = value
    if value is MISSING:
        del fields[name]
    return json.dumps(fields)


def seal_among_neighbours(work, texts):
    """Each text between two honest events; what was sealed of it all, without log.created."""
    honest = [make_event(number) for number in range(len(texts) + 1)]
    with work.chain.store.transaction() as connection:
        for event, text in zip(honest, [*texts, None], strict=True):
            work.outbox.put([event], connection)
            if text is not None:
                connection.execute("INSERT INTO audit_outbox (event) VALUES (CAST(? AS TEXT))", (text,))
    work.sealer.seal()
    assert list(work.outbox.waiting()) == []
    assert work.chain.verify().findings == ()
    rows = [dict(zip(RECORD_COLUMNS, row, strict=False)) for row in work.chain.store.rows(1)]
    assert [row["event_id"] for row in rows[::2]] == [event.event_id for event in honest]
    return rows[1::2]


@pytest.mark.usefixtures("codec")
class TestForgedRows:
    @pytest.mark.parametrize("name", DRAFT_COLUMNS)
    def test_a_field_of_a_wrong_type_or_form_makes_it_unreadable_and_its_neighbours_are_sealed(
        self, place_of_work, name
    ):
        texts = [forged(name, value) for value in [*WRONG[name], MISSING]]
        assert len(texts) > 12
        sealed = seal_among_neighbours(place_of_work, texts)
        assert [row["action"] for row in sealed] == ["outbox.unreadable"] * len(texts)

    @pytest.mark.parametrize("name", ["sequence", "previous_hash", "event_hash", "log", "v", "", "Action", "x"])
    def test_so_does_a_field_that_an_event_does_not_have(self, place_of_work, name):
        (row,) = seal_among_neighbours(place_of_work, [forged(name, None)])
        assert row["action"] == "outbox.unreadable"

    def test_so_does_what_is_no_object(self, place_of_work):
        plain = to_json(make_event())
        texts = ["", "{", "[]", "null", "5", '"x"', "NaN", f"[{plain}]", plain[:-1], plain + "}", plain + plain]
        texts += ["[" * 60_000, "x" * 70_000, b"\xff", plain.replace("test.event", "\xff").encode("latin-1")]
        texts += [plain.replace('"private":""', '"private":"","details":{"a":NaN}')]
        sealed = seal_among_neighbours(place_of_work, texts)
        assert [row["action"] for row in sealed] == ["outbox.unreadable"] * len(texts)

    def test_no_record_is_longer_than_it_may_be(self, place_of_work):
        texts = [forged("details", {"a": "x" * size}) for size in range(60_000, 66_000, 100)]
        sealed = seal_among_neighbours(place_of_work, texts)
        assert {row["action"] for row in sealed} == {"test.event", "outbox.unreadable"}
        records = [encode_record(row[:-1], "example.com/test") for row in place_of_work.chain.store.rows()]
        assert max(map(len, records)) <= MAX_RECORD_BYTES


@pytest.mark.usefixtures("codec")
class TestHonestRows:
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            dict.fromkeys(NULLABLE),
            {name: f"{name} Zoë \u2028 \U0001f9d1 \\u0000 \\ud800 \x01" for name in (*NULLABLE, "action")},
            {"details": {"b": [1, -(2**53) + 1, None, True, {"ä": "\U0001f600", "a": "\\u0000"}], "a": {}}},
            {"details": json.loads('{"a":' * 32 + "1" + "}" * 32)},
            {"actor_type": "admin", "outcome": "denied", "event_id": UUID},
            {"timestamp": datetime(1, 1, 1, tzinfo=UTC)},
            {"timestamp": datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)},
        ],
    )
    def test_what_we_write_is_read_as_it_was(self, fields):
        event = make_event(**fields)
        assert parse_draft(to_json(event)) == draft_of(event)
        assert event_of(parse_draft(to_json(event))) == event

    def test_the_order_and_the_spelling_of_a_text_do_not_matter(self):
        event = make_event(actor_id="Zoë\t\U0001f9d1", details={"b": {"d": 1, "c": "ß/"}, "a": [1, 2]})
        fields = json.loads(to_json(event))
        fields["details"] = dict(reversed(fields["details"].items()))
        names = list(fields)
        random.Random(1).shuffle(names)
        text = json.dumps({name: fields[name] for name in names}, indent=1).replace("/", "\\/")
        assert parse_draft(text) == draft_of(event)

    def test_the_longest_event_there_is_can_be_sealed_under_the_longest_origin(self):
        longest = {name: "\x01" * limit for name, limit in FIELD_LIMITS.items()}
        longest |= {"actor_type": "anonymous", "outcome": "success"}
        details = {"a": "x" * (DETAILS_BUDGET - 8)}
        assert fit(details, DETAILS_BUDGET) == details
        sealed = parse_draft(to_json(make_event(**longest, details=details)))
        assert len(encode_record(place(sealed, 10**18, GENESIS_HASH), "\x01" * 200)) <= MAX_RECORD_BYTES

    def test_an_event_made_by_hand_is_checked_as_well(self):
        for name in DRAFT_COLUMNS:
            for value in [1.5, b"x", ["x"], "\0", "\ud800", {"a": 1.5}, {"a": b"x"}]:
                fields = {"event_id": UUID, "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "action": "a.b", name: value}
                with pytest.raises((TypeError, ValueError, AttributeError)):
                    draft_of(AuditEvent(**fields))
