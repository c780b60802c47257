"""The demonstration, as a newcomer runs it; and that it notices when something does not come out as it must."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from rich.console import Console

from audit_core import AuditTrail
from example_projects.demo import auditor, chapters, tamper
from example_projects.demo.client import Client, Ledger, TooBusyError
from example_projects.demo.run import main
from example_projects.demo.server import Server
from example_projects.demo.show import Show

CHECKOUT = Path(__file__).resolve().parents[1]
FEW = ("--requests", "150")
WITHOUT_END = ("--requests", "1000000")


@pytest.fixture
def environment(tmp_path):
    """One in which the demonstration's folder lies where the test can look for it."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "TTY_COMPATIBLE"}}
    return {**inherited, "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize(
    "clinic", [["fastapi"], ["django"], pytest.param(["django", "--asgi"], marks=pytest.mark.long)], ids=" ".join
)
def test_a_day_in_every_clinic_comes_out_as_it_must(clinic, environment, tmp_path):
    done = run(*clinic, environment=environment)

    assert_all_came_out(done)
    assert not list(tmp_path.iterdir())


def test_what_is_kept_of_a_day_can_be_looked_at_with_audit(environment, tmp_path):
    kept = tmp_path / "kept"
    done = run("flask", "--keep", str(kept), environment=environment)
    assert_all_came_out(done)
    assert list(tmp_path.iterdir()) == [kept]
    (settings,) = [line for line in done.stdout.splitlines() if line.startswith("$ export ")]
    ours = dict(setting.split("=", 1) for setting in settings.removeprefix("$ export ").split())
    look = [sys.executable, "-m", "audit_core.cli", "verify", "--checkpoint", str(kept / "kept-elsewhere.checkpoint")]
    looked = subprocess.run(look, env={**environment, **ours}, capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stdout + looked.stderr


@pytest.mark.parametrize("after", [0.0, 0.5], ids=["while the server starts", "in the middle of the day"])
def test_ctrl_c_leaves_no_process_and_no_file_behind(after, environment, tmp_path):
    with started(command("fastapi", *WITHOUT_END), environment) as demo:
        server = wait_for_child(demo.pid)
        if after:
            wait_for_output(demo, b"A working day")
            time.sleep(after)
        os.killpg(demo.pid, signal.SIGINT)

        output, _ = demo.communicate(timeout=30)

    assert demo.returncode == 130, output.decode()
    assert b"Traceback" not in output
    assert not is_running(server)
    assert not list(tmp_path.iterdir())


def test_a_second_ctrl_c_does_not_break_the_first_one_off(environment, tmp_path):
    with started(command("flask", *WITHOUT_END), environment) as demo:
        server = wait_for_child(demo.pid)
        wait_for_output(demo, b"A working day")
        for _ in range(5):
            with suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGINT)
            time.sleep(0.02)
        demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert not is_running(server)
    assert not list(tmp_path.iterdir())


def test_an_attack_that_did_not_happen_is_reported(monkeypatch, tmp_path, state):
    place = chapters.Place(tmp_path)
    with AuditTrail(place.url) as trail:
        for _ in range(6):
            trail.record("chart.read")
    monkeypatch.setattr(tamper, "tamper", lambda _: tamper.Crime(edited=3, actor="osler", blamed="barton", deleted=5))
    show = Show(Console(file=io.StringIO()))

    chapters.attack(show, place)

    assert show.verdict() == 1
    named = ["the edited event 3 is named", "the deleted event 5 is named"]
    assert show.failed == ["exit status 1", "one sentence says what it comes to", *named]


def test_a_change_without_an_event_is_reported(monkeypatch):
    """Which looks the same as a change that only the client believes in."""
    changed = Ledger.changed
    monkeypatch.setattr(Ledger, "changed", lambda self, *of, **how: changed(self, *of, times=2, **how))
    show = Show(Console(file=io.StringIO()))

    assert main(["flask", *FEW], show) == 1

    assert any("committed changes" in name for name in show.failed), show.failed


def test_a_machine_that_is_too_busy_is_one_sentence_and_no_server_stays(monkeypatch, tmp_path):
    """As if it had no time for the server any more."""
    servers, note, answers = [], Ledger.note, Server._wait_until_it_answers
    clients = []

    def answer(server):
        answers(server)
        servers.append(server)

    def fall_silent(ledger, answered):
        note(ledger, answered)
        if len(ledger.answers) == 40:
            os.kill(servers[0].pid, signal.SIGSTOP)

    monkeypatch.setattr(Server, "_wait_until_it_answers", answer)
    monkeypatch.setattr(Ledger, "note", fall_silent)
    monkeypatch.setattr(
        "example_projects.demo.day.Client", lambda *whose: clients.append(Client(*whose)) or clients[-1]
    )
    monkeypatch.setattr("example_projects.demo.client.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("example_projects.demo.strangers.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("example_projects.demo.server.STOP_SECONDS", 0.2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    show = Show(Console(file=io.StringIO()))

    assert main(["flask", *FEW], show) == 1

    *_, said = show.console.file.getvalue().splitlines()
    assert said.startswith("This machine is too busy for the demonstration, an answer to ")
    assert said.endswith("took longer than 1 s: try again when it has less to do, or with --requests 200.")
    assert not is_running(servers[0].pid)
    assert all(client.http.is_closed for client in clients)
    assert not list(tmp_path.iterdir())


def test_a_command_that_does_not_end_in_time_is_a_machine_that_is_too_busy(monkeypatch):
    monkeypatch.setattr("example_projects.demo.auditor.COMMAND_SECONDS", 0.01)
    with pytest.raises(TooBusyError, match="`audit verify` took longer than"):
        auditor.audit(Show(Console(file=io.StringIO())), "verify")


def run(*arguments, environment):
    return subprocess.run(
        command(*arguments, *FEW), cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def assert_all_came_out(done):
    """And without colours and wide lines, as this is no terminal."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    assert "Everything came out as it must." in done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("$")) <= 120


def command(*arguments):
    return [sys.executable, "-m", "example_projects.demo", *arguments]


@contextmanager
def started(words, environment):
    """In a process group of its own, as a shell starts it."""
    process = subprocess.Popen(
        words, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:  # the test failed: the demonstration still takes its server with it
            process.terminate()
            process.communicate(timeout=30)


def wait_for_child(parent):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        children = [int(pid) for pid, ppid in map(str.split, listed.splitlines()) if int(ppid) == parent]
        if children:
            return children[0]
        time.sleep(0.02)
    pytest.fail("the demonstration started no server")


def wait_for_output(process, text):
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the demonstration ended without saying {text!r}")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
