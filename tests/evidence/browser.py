"""Real browsers, as far as this machine has them: Chromium over its DevTools protocol, Firefox over WebDriver BiDi.

Where one is missing its tests are skipped; AUDIT_TEST_BROWSERS=chromium,firefox demands both.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "firefox": ("firefox", "firefox-esr"),
}
DEMANDED = set(filter(None, os.environ.get("AUDIT_TEST_BROWSERS", "").split(",")))
PATIENCE = 60.0  # seconds, on a machine that is busy


def find(kind):
    """The program of this kind of browser; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS[kind])), None)


def needs(kind):
    """Skips a test where there is none of it, and nobody has demanded it."""
    missing = find(kind) is None and kind not in DEMANDED
    return pytest.mark.skipif(missing, reason=f"no {kind} on this machine")


CHROMIUM_AND_AT_LENGTH_FIREFOX = [
    pytest.param("chromium", marks=needs("chromium")),
    pytest.param("firefox", marks=[needs("firefox"), pytest.mark.long]),
]
KINDS = [pytest.param(kind, marks=needs(kind)) for kind in PROGRAMS]


class _Session:
    """Commands and their answers over one WebSocket; what the browser tells besides is passed over."""

    def __init__(self, socket):
        self.socket, self.numbers = socket, itertools.count(1)

    def call(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = json.loads(self.socket.recv(timeout=deadline - time.monotonic()))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]


class Page:
    """What both browsers do alike."""

    def value(self, script):
        """What an expression comes to, as JSON can say it."""
        raise NotImplementedError

    def wait(self, script, what):
        """Until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.value(script):
            assert time.monotonic() < deadline, f"{what} did not come"
            time.sleep(0.02)

    def open(self, path, key=None, kept=None):
        """Open a page of evidence, give it what an auditor has, and wait for its verdict."""
        url = Path(path).absolute().as_uri()
        if self.value("location.href") == url:
            self.go("about:blank")
            self.wait("location.href === 'about:blank'", "an empty page")
        self.go(url)
        done = "document.readyState === 'complete' && document.title !== 'Evidence from an audit trail'"
        self.wait(f"location.href === {json.dumps(url)} && {done}", "a verdict")
        for field, text in (("key", key), ("kept", kept)):
            if text is not None:
                self.give(field, text)
        return self

    def give(self, field, text):
        self.value(
            f"(() => {{ const field = document.getElementById('{field}'); field.value = {json.dumps(text)};"
            f" document.title = 'waiting'; field.dispatchEvent(new Event('input')); return true; }})()"
        )
        self.wait("document.title !== 'waiting'", "the next verdict")

    @property
    def verdict(self):
        return self.value("document.getElementById('verdict').dataset.state")

    @property
    def text(self):
        return self.value("document.getElementById('verdict').innerText")

    @property
    def whole(self):
        return self.value("document.body.innerText")


class Chromium(Page):
    def __init__(self, session):
        self.session = session
        self.session.call("Page.enable")

    def go(self, url):
        self.session.call("Page.navigate", url=url)

    def value(self, script):
        found = self.session.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def look(self, *, width=1280, height=900, dark=False, media=""):
        self.session.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.session.call("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, path, **how):
        found = self.session.call("Page.captureScreenshot", format="png", **how)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path):
        found = self.session.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        Path(path).write_bytes(base64.b64decode(found["data"]))


class Firefox(Page):
    def __init__(self, session):
        self.session = session
        self.session.call("session.new", capabilities={})
        (context,) = self.session.call("browsingContext.getTree")["contexts"]
        self.context = context["context"]

    def go(self, url):
        self.session.call("browsingContext.navigate", context=self.context, url=url, wait="none")

    def value(self, script):
        found = self.session.call(
            "script.evaluate", expression=f"JSON.stringify({script})", target={"context": self.context},
            awaitPromise=True,
        )  # fmt: skip
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))


@contextmanager
def running(kind, folder):
    """A browser of its own, that knows nobody and asks no network."""
    program = find(kind)
    profile = Path(folder) / f"{kind}-profile"
    profile.mkdir(parents=True)
    words = {
        "chromium": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", "about:blank",
        ],
        "firefox": [
            "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0", "about:blank",
        ],
    }[kind]  # fmt: skip
    log = Path(folder) / f"{kind}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([program, *words], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        with connect(_address(kind, log, process), max_size=None, open_timeout=PATIENCE, proxy=None) as socket:
            yield {"chromium": Chromium, "firefox": Firefox}[kind](_Session(socket))
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(kind, log, process):
    """Of the WebSocket that the browser has told that it listens at."""
    said = r"DevTools listening on ws://[^:]+:(\d+)/" if kind == "chromium" else r"BiDi listening on (ws://\S+)"
    deadline = time.monotonic() + PATIENCE
    while (found := re.search(said, log.read_text(errors="replace"))) is None:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, f"{kind} did not start: {log.read_text(errors='replace')}"
        time.sleep(0.05)
    if kind == "firefox":
        return f"{found[1]}/session"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{found[1]}/json/list", timeout=PATIENCE) as answer:
        return json.load(answer)[0]["webSocketDebuggerUrl"]
