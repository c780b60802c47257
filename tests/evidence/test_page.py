"""The page of a bundle, in real browsers: what it says of a good bundle, of a bad one, and of hostile names."""

import base64
import json
import re
import time
from hashlib import sha256

import pytest

from audit_core import VerifierKey
from audit_core.integrity.checkpoint import Checkpoint
from tests.evidence.browser import CHROMIUM_AND_AT_LENGTH_FIREFOX, needs
from tests.evidence.bundles import (
    HOSTILE,
    KEY,
    PAGE,
    changed,
    clinic,
    data_of,
    files_of,
    hostile,
    lines,
    select,
    write,
)
from tests.reports.names import NAMES
from tests.reports.trails import OURS, THEIRS, about, make_trail, seal

STRANGER = VerifierKey(KEY.name, THEIRS.public_key)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of a bundle of each kind, and a checkpoint that was kept."""
    folder = tmp_path_factory.mktemp("bundles")
    path, kept = clinic(folder / "clinic.db", 230)
    selections = {
        "whole": select(), "actor": select(actor="amina"), "sample": select(5, "tuesday"),
        "time": select(since=about("", 3).timestamp, until=about("", 6).timestamp),
    }  # fmt: skip
    files = {name: files_of(write(path, folder / name, one, checkpoints=[kept])) for name, one in selections.items()}
    return files, kept


class TestAGoodBundle:
    @pytest.mark.parametrize("kind", ["whole", "actor", "sample", "time"])
    def test_says_so_with_the_auditors_key_only(self, made, opened, kind):
        page = opened(made[0][kind]["evidence.html"], key=None)
        assert page.verdict == "untrusted"
        assert "you have not said which key you trust" in page.text
        page.give("key", str(KEY))
        assert (page.verdict, page.text.split(":")[0]) == ("ok", "OK"), page.text
        page.give("key", str(STRANGER))
        assert page.verdict == "failed"
        assert "not signed with the key that you gave" in page.text
        page.give("key", f"{STRANGER}\n{KEY}")
        assert page.verdict == "ok"

    def test_says_what_the_verdict_does_not_cover(self, made, opened):
        assert "Not shown: that no further event matches" in opened(made[0]["actor"]["evidence.html"]).whole
        assert "Complete: these are all events of the trail" in opened(made[0]["whole"]["evidence.html"]).whole
        page = opened(made[0]["time"]["evidence.html"])
        assert "Complete between the events 3 and 7" in page.whole
        assert "sealed before or after these" in page.whole
        assert "choose it yourself" in opened(made[0]["sample"]["evidence.html"]).whole

    def test_takes_a_checkpoint_that_the_auditor_kept(self, made, opened):
        page = opened(made[0]["whole"]["evidence.html"], kept=made[1])
        assert page.verdict == "ok"
        assert "It vouches for the first 116 events." in page.whole
        other = Checkpoint(KEY.name, 116, b"x" * 32)
        page.give("kept", other.note(other.sign(OURS)))
        assert page.verdict == "failed"
        assert "of another history" in page.text
        page.give("kept", other.note(other.sign(THEIRS)))
        assert page.verdict == "failed"
        assert "signed with another key" in page.text

    def test_a_checkpoint_that_was_damaged_on_its_way_accuses_nobody(self, made, opened):
        damaged = made[1].replace(made[1].split("\n")[2], base64.b64encode(b"x" * 32).decode())
        page = opened(made[0]["whole"]["evidence.html"], kept=damaged)
        assert page.verdict == "ok"
        assert "Not taken: it is not as it was signed" in page.whole
        assert "vouches for the first" not in page.whole

    def test_the_key_of_another_trail_is_a_question(self, made, opened):
        page = opened(made[0]["sample"]["evidence.html"], str(VerifierKey("example.com/other", OURS.public_key)))
        assert page.verdict == "untrusted"
        assert "This key is of another trail, example.com/other" in page.whole
        assert 0 < page.whole.index("you were given another") < page.whole.index("paste the key")

    def test_a_key_whose_trail_looks_like_this_one_is_told_apart(self, made, opened):
        alike = VerifierKey("example.com/\u0441linic", OURS.public_key)
        page = opened(made[0]["sample"]["evidence.html"], str(alike))
        assert "This key is of another trail, example.com/\\u0441linic. If" in page.whole

    @pytest.mark.parametrize("key", ["nonsense", str(KEY)[:-4], str(KEY).replace("+", "+0", 1), ""])
    def test_a_key_that_is_none_decides_nothing(self, made, opened, key):
        assert opened(made[0]["sample"]["evidence.html"], key).verdict == "untrusted"

    def test_events_are_shown_field_by_field_and_searched(self, made, opened):
        page = opened(made[0]["whole"]["evidence.html"])
        assert page.value("document.querySelectorAll('#events > li').length") == 100
        assert re.search(r"phone\s+030 1\s+030 2", page.value("document.querySelector('table.changes').innerText"))
        page.value(
            "(() => { const field = document.getElementById('search'); field.value = 'BOB denied';"
            " field.dispatchEvent(new Event('input')); return true; })()"
        )
        found = page.value("[...document.querySelectorAll('#events > li')].map((item) => item.innerText)")
        assert 0 < len(found) < 100
        assert all("bob" in text and "denied" in text for text in found)


def _record(number, change):
    def corrupt(data):
        data["records"][number] = change(data["records"][number])

    return corrupt


def _file(name, change):
    def corrupt(data):
        data["files"][name] = change(data["files"][name])

    return corrupt


def _about(**members):
    return _file("bundle.json", lambda text: changed(text, **members).decode())


def _node(data):
    start, stop, text = data["nodes"][5]
    data["nodes"][5] = [start, stop, f"AAAA{text[4:]}"]


def _loose_base64(data):
    """The last character has two bits that decoding drops."""
    start, stop, text = data["nodes"][5]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    data["nodes"][5] = [start, stop, f"{text[:-2]}{alphabet[alphabet.index(text[-2]) ^ 1]}="]


def _exchanged(data):
    data["records"][2:4] = data["records"][3:1:-1]


CORRUPTIONS = {
    "a value": ("whole", _record(7, lambda text: text.replace('"bob"', '"eve"').replace("amina", "eve")), "event 7: "),
    "a time": ("whole", _record(9, lambda text: text.replace("2026-01-31", "2026-01-30")), "event 9: "),
    "a record left out": ("actor", lambda data: data["records"].pop(4), "bundle.json: it names 172 events"),
    "a record twice": (
        "actor", lambda data: data["records"].insert(1, data["records"][0]), "it stands after the event 1"
    ),
    "two records exchanged": ("whole", _exchanged, "event 2: it stands after the event 3"),
    "a record of another trail": (
        "whole", _record(3, lambda text: text.replace('"log":"example.com/clinic"', '"log":"x"')), "event 3: it is of"
    ),
    "what is no record": ("whole", _record(0, lambda _: "nothing"), "record 1: it is no record"),
    "a hash of a proof": ("actor", _node, "do not lead to the root"),
    "a hash in loose base64": ("actor", _loose_base64, "it is not base64"),
    "a hash that is missing": ("actor", lambda data: data["nodes"].pop(5), "do not lead to the root"),
    "a hash that nobody needs": (
        "whole", lambda data: data["nodes"].append([0, 7, data["nodes"][0][2]]), "no event needs the hash"
    ),
    "the root": ("whole", _file("checkpoint.txt", lambda text: text.replace("\n231\n", "\n230\n")), "checkpoint.txt: "),
    "the signature": (
        "whole", _file("checkpoint.txt", lambda text: f"{text[:-9]}AAAA{text[-5:]}"), "its signature is not by the key"
    ),
    "the key": (
        "whole", _file("keys.jsonl", lambda text: changed(text, key=str(STRANGER)).decode() + "\n"),
        "checkpoint.txt: its signature is not by the key in the bundle",
    ),
    "a kept checkpoint": (
        "whole", _file("kept/1-116.checkpoint", lambda text: text.replace("\n116\n", "\n115\n")), "kept/1-116.checkp"
    ),
    "a consistency proof": (
        "whole", _file("consistency.jsonl", lambda text: changed(text, hashes=[]).decode() + "\n"),
        "the consistency proof from 116 to 231 events does not hold",
    ),
    "a hash of a consistency proof": (
        "whole", _file("consistency.jsonl", lambda text: re.sub('"hashes":\\["....', '"hashes":["AAAA', text)),
        "the consistency proof from 116 to 231 events does not hold",
    ),
    "whom it is about": ("actor", _about(selection={"actor_id": "bob"}), 'actor_id is "amina"'),
    "the time that it is about": (
        "time", _about(selection={"since": "2026-01-31T12:00:05.000000Z"}), "not of the time that was asked for"
    ),
    "a sample that nobody can draw": (
        "sample", _about(selection={"sample": 10**12, "seed": "tuesday"}), "no sample has 1,000,000,000,000 events"
    ),
    "the seed": ("sample", _about(selection={"sample": 5, "seed": "monday"}), "by the seed"),
    "what was asked for, so that it is all": ("actor", _about(selection={}), "events are missing"),
    "the tree size": ("whole", _about(tree_size=232), "bundle.json says 232"),
}  # fmt: skip


# Each takes a third of a second; what both make of the data is one program.
@pytest.mark.parametrize("browser", CHROMIUM_AND_AT_LENGTH_FIREFOX, indirect=True)
class TestACorruptedBundle:
    @pytest.mark.parametrize("what", CORRUPTIONS)
    def test_says_what_is_wrong_and_where(self, made, opened, what):
        kind, corrupt, expected = CORRUPTIONS[what]
        data = data_of(made[0][kind])
        corrupt(data)
        page = opened(data)
        assert page.verdict == "failed"
        assert expected in page.text, page.text
        assert "OK" not in page.value("document.title")

    def test_data_that_is_no_json_is_not_ok(self, made, opened):
        page = opened(made[0]["sample"]["evidence.html"].replace(b'"records"', b'"records', 1))
        assert page.verdict == "failed"

    @pytest.mark.parametrize(
        "wrong",
        [{"selection": None}, {"selection": []}, {"besides": None}, {"besides": {}}, {"events": "5"}, {"origin": 7}],
        ids=repr,
    )
    def test_a_member_of_the_wrong_type_leaves_nobody_waiting_for_a_verdict(self, made, opened, wrong):
        data = data_of(made[0]["sample"])
        data["files"]["bundle.json"] = json.dumps(json.loads(data["files"]["bundle.json"]) | wrong)
        assert opened(data).verdict == "failed"

    def test_a_changed_event_is_marked_and_can_be_jumped_to(self, made, opened):
        data = data_of(made[0]["whole"])
        _record(217, lambda text: text.replace('"bob"', '"eve"').replace("amina", "eve"))(data)
        page = opened(data)
        page.value("(document.querySelector('#faults button').click(), true)")
        marked = page.value("[...document.querySelectorAll('#events > li.wrong')].map((item) => item.dataset.sequence)")
        assert "217" in marked


def _written_out(character):
    code = f"{ord(character):04x}"
    return f"\\x{code[2:]}" if code < "0100" else f"\\u{code}" if len(code) == 4 else f"\\u{{{code}}}"


class TestHostileNames:
    def test_run_nothing_and_hide_nothing(self, opened, tmp_path):
        files = files_of(write(hostile(tmp_path / "trail.db"), tmp_path / "bundle"))
        page = opened(files["evidence.html"])
        assert page.verdict == "ok", page.text
        assert page.value("document.scripts.length") == PAGE.count("<script")
        shown = page.value("document.getElementById('events').innerText")
        assert "</script><script>document.title='owned'</script>\\u2028\\u202eevil\\x1b[31m<!--\ufffd" in shown
        assert not re.search("[\u202e\u2028\x1b]", shown)
        assert "show all 30,000 characters" in shown
        assert HOSTILE not in files["evidence.html"].decode()

    def test_names_that_look_like_others_are_told_apart(self, made, opened):
        data = data_of(made[0]["whole"])
        for number, (name, _) in enumerate(NAMES):
            record = json.loads(data["records"][number]) | {"actor_id": name}
            data["records"][number] = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        of_it = "[...event.querySelector('.who').childNodes].filter((one) => one.className !== 'small')"
        name_of = f"(event) => {of_it}.map((one) => one.textContent).join('')"
        shown = opened(data).value(f"[...document.querySelectorAll('#events > li')].map({name_of})")
        assert shown[: len(NAMES)] == [
            "".join(_written_out(one) if one in hidden else one for one in name) for name, hidden in NAMES
        ]

    @pytest.mark.parametrize(
        ("old", "new"),
        [('"action":', '"action":"nothing","action":'), ('"v":1', '"v": 1'), ('"v":1', '"v":9007199254740993')],
        ids=["a member twice", "a space", "a number that is shown as another"],
    )
    def test_a_record_that_two_readers_read_in_two_ways_is_none(self, made, opened, old, new):
        data = data_of(made[0]["sample"])
        data["records"][0] = data["records"][0].replace(old, new, 1)
        assert "it is no record in canonical form (RFC 8785)" in opened(data).text

    def test_nothing_may_be_loaded_or_run_besides(self, made, opened):
        page = opened(made[0]["sample"]["evidence.html"])
        tried = page.value(
            "(() => { const script = document.createElement('script'); script.textContent = 'document.title = 1';"
            " document.body.append(script); return document.title; })()"
        )
        assert tried != "1"
        assert page.value("fetch('data:,x').then(() => 'loaded', () => 'refused')") in ("refused", {})

    def test_the_policy_names_the_program_and_the_style_that_are_there(self):
        for name in ("script", "style"):
            (inner,) = re.findall(rf"<{name}>(.*?)</{name}>", PAGE, re.DOTALL)
            digest = base64.b64encode(sha256(inner.encode()).digest()).decode()
            assert f"{name}-src 'sha256-{digest}'" in PAGE, f"write {digest}"
        assert "default-src 'none'" in PAGE
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", PAGE)


@needs("chromium")
class TestABrowserThatCannot:
    @pytest.mark.parametrize(
        ("without", "expected"),
        [
            (
                "crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError'));",
                "NOT CHECKED: this browser cannot check the signatures",
            ),
            (
                "Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined });",
                "NOT CHECKED: this browser cannot compute hashes here",
            ),
        ],
    )
    def test_says_that_and_never_ok(self, made, chromium, tmp_path, without, expected):
        (tmp_path / "evidence.html").write_bytes(made[0]["sample"]["evidence.html"])
        added = chromium.session.call("Page.addScriptToEvaluateOnNewDocument", source=without)
        try:
            chromium.go("about:blank")
            chromium.go((tmp_path / "evidence.html").as_uri())
            chromium.wait("document.readyState === 'complete' && document.title !== ''", "the page")
            chromium.wait(f"document.body.innerText.includes({json.dumps(expected)})", expected)
            chromium.value(
                f"(() => {{ const field = document.getElementById('key'); field.value = {json.dumps(str(KEY))};"
                " field.dispatchEvent(new Event('input')); return true; })()"
            )
            time.sleep(0.2)
            assert chromium.verdict == "unchecked"
        finally:
            chromium.session.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The page of ten thousand events."""
    folder = tmp_path_factory.mktemp("many")
    trail = make_trail(folder / "trail.db")
    changes = {"changes": {"phone": {"old": "030 1234567", "new": "030 7654321"}}}
    seal(trail, [about(str(n % 500), n, action="update", details=changes) for n in range(9_999)])
    trail.close()
    files = files_of(write(folder / "trail.db", folder / "bundle"))
    (folder / "evidence.html").write_bytes(files["evidence.html"])
    return folder / "evidence.html"


class TestManyEvents:
    def test_ten_thousand_are_shown_within_three_seconds(self, many, browser):
        browser.open(many, str(KEY))
        assert browser.verdict == "ok", browser.text
        assert "10,000 events" in browser.text
        assert _took(browser, "shown") < 3_000

    @pytest.mark.long
    def test_and_checked_within_three_seconds(self, many, browser):
        """On a machine that does nothing else: of three times the shortest."""
        assert min(_took(browser.open(many), "verdict") for _ in range(3)) < 3_000


def _took(browser, what):
    """Milliseconds from the beginning of the page."""
    return browser.value(f"performance.getEntriesByName('{what}')[0].startTime")


def test_the_records_in_the_page_are_those_of_the_files(made):
    for files in made[0].values():
        assert data_of(files)["records"] == lines(files["records.jsonl"])
