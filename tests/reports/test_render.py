"""Tables, CSV and JSON: safe to look at, safe to open, and written as they are read."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from datetime import timedelta

import pytest
from rich.console import Console

from audit_core.reports import AuditReporter, write_csv, write_json, write_page, write_table
from audit_core.reports.table import TABLE_ROWS
from audit_core.reports.text import safe_json, spreadsheet_cell, visible
from tests.reports.trails import NOON, about, event, seal, started

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\x7f"
ROWS = 15_000
LONG = "x" * 300


@pytest.fixture
def reporter(trail):
    return AuditReporter(trail)


def table(report, width=160) -> str:
    stream = io.StringIO()
    write_table(report, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def as_csv(report) -> str:
    stream = io.StringIO()
    write_csv(report, stream)
    return stream.getvalue()


def as_json(report) -> str:
    stream = io.StringIO()
    write_json(report, stream)
    return stream.getvalue()


def is_safe(text: str) -> bool:
    return not any(ord(c) < 0x20 and c != "\n" for c in text) and not set(text) & set("\x7f\x9b\u202e")


class TestHostileValues:
    @pytest.fixture
    def report(self, trail, reporter):
        fields = {"actor_id": HOSTILE, "action": f"GET {HOSTILE}", "details": {"changes": {HOSTILE: {"new": HOSTILE}}}}
        seal(trail, [about("42", **fields)])
        return reporter.access_report("patient", "42")

    def test_no_control_character_reaches_the_terminal_from_a_table(self, report):
        text = table(report)
        assert is_safe(text)
        assert "\\x1b[2J" in text

    def test_nor_from_csv(self, report):
        assert is_safe(as_csv(report))

    def test_nor_from_json_which_keeps_the_value(self, report):
        text = as_json(report)
        assert is_safe(text)
        assert json.loads(text)["rows"][0]["actor_id"] == HOSTILE

    def test_nor_from_failures_and_titles(self, trail, reporter):
        seal(trail, [event(n, actor_id=HOSTILE, outcome="denied") for n in range(5)])
        for write in (table, as_csv, as_json):
            assert is_safe(write(reporter.failed_access_report()))
            assert is_safe(write(reporter.access_report(HOSTILE, HOSTILE)))

    def test_markup_of_the_table_is_text(self, trail, reporter):
        seal(trail, [about("42", actor_id="[red]eve[/red] :smile:")])
        assert "[red]eve[/red] :smile:" in table(reporter.access_report("patient", "42"), 300)

    def test_names_in_any_script_stay_readable(self):
        for name in ("Åsa Öberg", "山田太郎", "می‌خواهم", "O'Brien"):
            assert visible(name) == name

    def test_names_that_look_like_another_are_told_apart_and_json_keeps_them(self):
        for name in ("dr-ada\u200c", "\u200ddr-ada", "dr-ada\u3164", "dr-\u034fada", "dr-ada\U000e0041"):
            assert visible(name).isascii()
            assert safe_json(json.dumps(name, ensure_ascii=False)).isascii()
            assert json.loads(safe_json(json.dumps(name, ensure_ascii=False))) == name


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "\t="])
def test_a_cell_that_a_spreadsheet_would_take_for_a_formula_gets_an_apostrophe(begin):
    cell = spreadsheet_cell(f"{begin}cmd|'/c calc'!A1")
    assert cell.startswith("'")
    assert is_safe(cell)


def test_other_cells_stay_as_they_are():
    for value in ("amina", "a=b", "2026-01-31", "patient:42", "", None, 7):
        assert spreadsheet_cell(value) == value


@pytest.mark.parametrize("text", [";=1", "x;=1", "x; =1", 'x;"=1"', "x|@SUM(1)", "a;-b;+c", "x;'=1", "x;＝1"])
def test_a_cell_that_another_country_splits_holds_no_formula_either(text):
    for separator in ";|":
        for part in spreadsheet_cell(text).split(separator):
            assert not part.strip().strip('"').strip().startswith(tuple("=+-@＝"))


def test_details_that_another_country_splits_hold_no_formula_and_mean_the_same(trail, reporter):
    details = {"note": 'x;=1|"=2', "n": [1, -5], "plain": "a; b", "quoted": ';"=HYPERLINK(1)"'}
    seal(trail, [about("42", 1, details=details)])
    stream = io.StringIO()
    write_csv(reporter.access_report("patient", "42"), stream)
    line = stream.getvalue().splitlines()[1]
    assert not re.search(r"""[;|][\s"'\\]*[=+@-]""", line)
    assert json.loads(next(csv.DictReader(io.StringIO(stream.getvalue())))["details"]) == details


def test_a_formula_in_the_trail_is_none_in_the_csv(trail, reporter):
    seal(trail, [about("42", actor_id="=HYPERLINK(1)", action="@SUM(1)")])
    (row,) = csv.DictReader(io.StringIO(as_csv(reporter.access_report("patient", "42"))))
    assert (row["actor_id"], row["action"]) == ("'=HYPERLINK(1)", "'@SUM(1)")


class TestWhatIsWritten:
    def test_csv_has_every_field_and_times_in_utc(self, trail, reporter):
        seal(trail, [about("42", details={"changes": {"name": {"old": None, "new": 'a "b", c'}}})])
        (row,) = csv.DictReader(io.StringIO(as_csv(reporter.access_report("patient", "42"))))
        assert row["timestamp"] == "2026-01-31T12:00:00.000000Z"
        assert json.loads(row["details"]) == {"changes": {"name": {"old": None, "new": 'a "b", c'}}}
        assert (row["actor_id"], row["sequence"], row["tenant_id"]) == ("amina", "1", "")

    def test_json_is_one_document_with_one_row_a_line(self, trail, reporter):
        seal(trail, [started(), *(about("42", n) for n in range(3))])
        text = as_json(reporter.access_report("patient", "42"))
        document = json.loads(text)
        assert [row["sequence"] for row in document["rows"]] == [2, 3, 4]
        assert (document["report"], document["events"]) == ("access", 3)
        assert (document["coverage"]["waiting"], document["coverage"]["noted"]) == (0, True)
        assert document["statements"][0] == {
            "control": "PCI DSS 4.0.1 10.2.1.1", "status": "evidenced", "figures": "3 events"
        }  # fmt: skip
        assert [json.loads(line.rstrip(",")) for line in text.splitlines()[1:4]] == document["rows"]

    def test_json_that_breaks_off_is_no_json(self, trail, reporter):
        seal(trail, [about("42", n) for n in range(3)])
        text = as_json(reporter.access_report("patient", "42"))
        with pytest.raises(ValueError, match=r"Expecting"):
            json.loads(text[: text.rindex("]")])

    def test_an_empty_report_is_still_one(self, trail, reporter):
        seal(trail, [])
        assert json.loads(as_json(reporter.access_report("patient", "1")))["rows"] == []
        assert len(as_csv(reporter.access_report("patient", "1")).splitlines()) == 1
        assert "Rows: 0" in table(reporter.access_report("patient", "1"))

    def test_a_table_tells_who_what_and_which_fields(self, trail, reporter):
        changes = {"changes": {"name": {"old": "A", "new": "B"}, "born": {"old": None, "new": "C"}}}
        seal(trail, [
            about("42", action="update", details=changes, ip_address="192.0.2.1"),
            about("42", 1, actor_id="root", actor_type="admin", on_behalf_of="7"),
            about("42", 2, actor_id=None),
        ])  # fmt: skip
        text = table(reporter.access_report("patient", "42"), 200)
        assert "2026-01-31 12:00:00 " in text
        for part in ("amina", "update", "patient:42", "192.0.2.1", "born, name", "root (admin) for 7", "(anonymous)"):
            assert part in text

    def test_nothing_is_cut_off_in_a_narrow_table(self, trail, reporter):
        seal(trail, [about("42", action="x" * 300)])
        assert table(reporter.access_report("patient", "42"), 80).count("x") == 300

    @pytest.mark.parametrize("width", [80, 100, 120, 160])
    def test_no_word_is_broken_on_a_terminal_of_any_usual_width(self, trail, reporter, width):
        changes = {"changes": {"name": {"old": "A", "new": "B"}, "phone": {"old": None, "new": "C"}}}
        seal(trail, [
            about("4711", action="POST /patients", ip_address="192.0.2.101", details=changes),
            *(event(n, "POST /login", actor_id="eve@example", outcome="denied") for n in range(1, 7)),
        ])  # fmt: skip
        text = table(reporter.access_report("patient"), width)
        words = ("2026-01-31 12:00:00", "success", "patient:4711", "192.0.2.101", "amina", "name,", "phone", "sequence")
        assert [word for word in words if word not in text] == []
        failures = table(reporter.failed_access_report(), width)
        words = ("2026-01-31 12:00:01", "2026-01-31 12:00:06", "eve@example", "actor", "failures", "denied", "/login")
        assert [word for word in words if word not in failures] == []

    @pytest.mark.parametrize("width", [50, 80, 119])
    def test_where_a_row_has_no_room_it_takes_two_lines(self, trail, reporter, width):
        seal(trail, [about("7", n, action="read") for n in range(3)])
        lines = table(reporter.access_report("patient"), width).splitlines()
        assert [line.rstrip().endswith("read") for line in lines if "12:00:0" in line] == [True] * 3
        assert [line.split() for line in lines if line.endswith(" ") and "patient:7" in line] == [
            ["amina", "(anonymous)", "patient:7"]
        ] * 3

    @pytest.mark.parametrize("width", [80, 160])
    def test_each_line_of_a_table_leads_to_its_event_and_the_last_one_says_how(self, trail, reporter, width):
        seal(trail, [about("42", n, outcome="denied") for n in range(5)])
        *_, last = table(reporter.access_report("patient"), width).splitlines()
        assert last.startswith("`audit show` with one of these sequences shows that event in full, `audit prove`")
        failures = table(reporter.failed_access_report(), width)
        (sequence,) = re.findall(r", event (\d+)", failures)
        assert trail.find(int(sequence)).resource_id == "42"
        assert "audit show" not in table(reporter.access_report("patient", "1"), width)

    def test_a_column_that_is_empty_is_left_out_until_it_is_needed(self, trail, reporter):
        plain = [about("42", n / 10) for n in range(TABLE_ROWS)]
        seal(trail, [*plain, about("42", 60, ip_address="192.0.2.1"), about("42", 61)])
        heads = [line.split() for line in table(reporter.access_report("patient")).splitlines() if "outcome" in line]
        assert heads == [
            ["when", "(UTC)", "who", "action", "resource", "outcome", "sequence"],
            ["when", "(UTC)", "who", "action", "resource", "outcome", "from", "sequence"],
        ]

    def test_a_long_table_has_one_head_and_its_parts_stand_below_each_other(self, trail, reporter):
        seal(trail, [about("42", n / 10, action="update" * (n % 4 + 1)) for n in range(3 * TABLE_ROWS + 1)])
        lines = table(reporter.access_report("patient", "42"), 200).splitlines()
        assert sum("outcome" in line for line in lines) == 1
        rows = [line for line in lines if "success" in line]
        assert len(rows) == 3 * TABLE_ROWS + 1
        assert {line.index("success") for line in rows} == {rows[0].index("success")}


class Sink(io.TextIOBase):
    def __init__(self) -> None:
        self.characters = 0

    def write(self, text: str) -> int:
        self.characters += len(text)
        return len(text)


def write_a_table(report, stream) -> None:
    write_table(report, Console(file=stream, width=160, color_system=None))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    from tests.reports.trails import make_trail

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        trail = make_trail(tmp_path_factory.mktemp("many") / "many.db")
        for start in range(0, ROWS, 5_000):
            seal(trail, (about("42", n / 100, outcome="denied", ip_address=f"192.0.2.{n % 50}", details={"n": LONG})
                         for n in range(start, start + 5_000)))  # fmt: skip
        yield trail
        trail.close()


def test_a_page_about_a_person_does_not_fill_memory(many):
    end = NOON + timedelta(seconds=75)
    report = AuditReporter(many).subject_report(actors=["amina"], resources=["patient:42"], end=end)
    sink = Sink()
    tracemalloc.start()
    write_page(report, sink)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.rows == 7_500
    assert peak < 11_000_000  # a page of the store for each of the names; the rows as text would take as much again
    assert sink.characters > 100 * report.rows


@pytest.mark.parametrize(
    ("write", "seconds"),
    [(write_csv, None), pytest.param(write_json, None, marks=pytest.mark.long), (write_a_table, 8)],
)
def test_many_rows_do_not_fill_memory(many, write, seconds):
    end = None if seconds is None else NOON + timedelta(seconds=seconds)  # a table is slow
    report = AuditReporter(many).access_report("patient", "42", None, end)
    sink = Sink()
    tracemalloc.start()
    write(report, sink)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.rows == (ROWS if seconds is None else 100 * seconds)
    assert peak < 16_000_000  # a page of the store; all rows would take three times as much
    assert sink.characters > 100 * report.rows


def test_many_failures_do_not_fill_memory(many):
    report = AuditReporter(many).failed_access_report()
    tracemalloc.start()
    rows = list(report)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(rows), rows[0].failures) == (51, ROWS)
    assert peak < 16_000_000
