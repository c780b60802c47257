"""``audit`` on a trail with a queue, and what ``audit doctor`` says of one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from audit_core.cli import main
from audit_core.testing.making import make_event
from audit_core.urls import open_queue
from tests.queues.redis_server import Server, new_queue


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AUDIT_QUEUE", raising=False)

    def run(*words, url=f"sqlite:///{tmp_path}/clinic.db"):
        capsys.readouterr()
        code = main([*words, "--url", url])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def put(url, count=1):
    queue = open_queue(url)
    queue.commit([make_event(action="a.b") for _ in range(count)])
    queue.close()


def test_status_and_seal_know_the_queue(command, monkeypatch):
    url = new_queue()
    assert command("--queue", url, "init")[0] == 0
    put(url, 3)
    assert "3 of these wait in redis://" in command("--queue", url, "status")[1]
    code, out, _ = command("--queue", url, "seal")
    assert (code, out.startswith("3 sealed")) == (0, True)
    assert "no queue is named: what waits there is not seen" in command("status")[2]
    monkeypatch.setenv("AUDIT_QUEUE", url)
    code, out, err = command("status")
    assert ("0 of these wait" in out, "no queue is named" in err) == (True, False)


def test_a_misspelt_queue_does_not_look_as_if_nothing_waited_in_it(command):
    assert command("--queue", new_queue(), "init")[0] == 0
    code, _, err = command("--queue", new_queue(), "status")
    assert code == 2
    assert "correct --queue, or run `audit init`" in err


def test_a_queue_that_is_away_is_told_and_the_trail_can_be_read(command, server):
    assert command("--queue", server.url, "init")[0] == 0
    server.kill()
    for words in (["status"], ["events"], ["verify"]):
        code, out, err = command("--queue", server.url, *words)
        assert code in {0, 3}
        assert "check that the server runs" in out + err
    server.start()


def test_an_emptied_queue_is_no_misspelt_one(command, server):
    command("--queue", server.url, "init")
    put(server.url)
    command("--queue", server.url, "seal")
    with server.client() as client:
        client.flushall()
    assert command("--queue", server.url, "seal")[0] == 0
    assert "trail.gap" in command("events")[1]


def test_doctor_says_which_settings_lose_events(command, server):
    command("--queue", server.url, "init")

    def doctor(**settings):
        with server.client() as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)
        code, out, _ = command("--queue", server.url, "doctor")
        return code, out

    code, out = doctor(appendfsync="everysec")
    assert code == 0
    assert "note  a crash of Redis's machine loses the events of the last second or two" in out
    assert "note  Redis has no limit of memory" in out
    code, out = doctor(appendfsync="always", maxmemory="500mb")
    assert (code, out.count("ok ")) == (0, 2)
    code, out = doctor(maxmemory_policy="allkeys-lru")
    assert code == 1
    assert "WRONG Redis may throw the queue away when its memory is full (maxmemory-policy allkeys-lru)" in out
    code, out = doctor(maxmemory_policy="noeviction", appendfsync="no")
    assert code == 1
    assert "WRONG a crash of Redis's machine loses what the system has not written" in out
    code, out = doctor(appendonly="no")
    assert code == 1
    assert "WRONG Redis keeps no append-only file: a restart loses every event that is not sealed" in out
    with server.client() as client:
        client.config_set("appendonly", "yes")
        client.execute_command("ACL SETUSER few on >few ~* +@all -config")
    out = command("--queue", server.url.replace("//", "//few:few@"), "doctor")[1]
    assert "note  not tried: when Redis writes to its disk" in out


def test_doctor_has_nothing_to_say_of_a_file_without_a_queue(command):
    command("init")
    assert "This is for a trail in PostgreSQL" in command("doctor")[2]


def test_a_sealer_apart_drains_the_queue_until_it_is_told_to_end(tmp_path, command):
    queue, url = new_queue(), f"sqlite:///{tmp_path}/clinic.db"
    command("--queue", queue, "init")
    words = [sys.executable, "-m", "audit_core.cli", "--url", url, "--queue", queue, "seal", "--follow"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    process.stdout.readline()  # the first look
    put(queue, 2)
    deadline = time.monotonic() + 20
    while "0 of these wait" not in command("--queue", queue, "status")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
