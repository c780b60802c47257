"""A pytest plugin for the own tests of Starlette, FastAPI and Flask: notes each outcome, and audits every application.

It stands on the path by itself, since each of them has a package of its own that is called ``tests``. Their tests
compare headers: the one that we add is left away.
"""

import _pytest.monkeypatch
import outcomes
from everything import Everything

from audit_core import AuditTrail
from audit_core.requests.answer import Answer

_pytest.monkeypatch.notset = _pytest.monkeypatch.NOTSET  # as Flask's tests call it, and pytest does no longer


def pytest_runtest_logreport(report):
    """A test whose preparation fails has failed."""
    if report.when == "call" or report.outcome != "passed":
        outcomes.note(report.nodeid, report.outcome, str(report.longrepr or ""))


def pytest_sessionfinish():
    outcomes.note_events()


def pytest_configure(config):
    del config
    if outcomes.CAPTURES:
        outcomes.count_events("submit")
        Answer.headers = lambda self, present: []
        trail = AuditTrail("memory:", lifecycle=False, policy=Everything())
        _ = trail.redactor  # which reads a key once, and not in an event loop, where their tests allow no reading
        _audit_starlette(trail)
        _audit_flask(trail)


def _audit_starlette(trail):
    """As the first of an application's middleware; around what is no application of Starlette's, its test client."""
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.testclient import TestClient

    from audit_fastapi import AuditMiddleware

    def audited(build):
        def build_middleware_stack(self):
            self.user_middleware.insert(0, Middleware(AuditMiddleware, trail=trail))
            try:
                return build(self)
            finally:
                del self.user_middleware[0]

        return build_middleware_stack

    for kind in (Starlette, FastAPI):
        if "build_middleware_stack" in vars(kind):
            kind.build_middleware_stack = audited(kind.build_middleware_stack)

    begin = TestClient.__init__

    def beginning(self, app, *args, **options):
        begin(self, app, *args, **options)
        if not isinstance(app, Starlette):
            self._transport.app = AuditMiddleware(self._transport.app, trail)

    TestClient.__init__ = beginning


def _audit_flask(trail):
    from flask import Flask

    from audit_flask import Audit

    begin = Flask.__init__

    def beginning(self, *args, **options):
        begin(self, *args, **options)
        Audit(self, trail)

    Flask.__init__ = beginning
