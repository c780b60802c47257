"""A pytest plugin for SQLAlchemy's own tests: notes each outcome, and attaches capture to every session.

The tests count and compare SQL. What capture reads by itself is hidden from them, and so is what a statement returns:
each difference that is left is one of behaviour.
"""

import copy
import re
import sys

import pytest

from tests.suites import outcomes

_state = {}


def pytest_runtest_logreport(report):
    """A test whose preparation fails has failed."""
    if report.when == "call" or report.outcome != "passed":
        outcomes.note(report.nodeid, report.outcome, str(report.longrepr or ""))


def pytest_sessionfinish():
    outcomes.note_events()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Some of SQLAlchemy's tests remove every listener there is."""
    del item
    if outcomes.CAPTURES:
        _attach()


def _attach():
    from sqlalchemy import event
    from sqlalchemy.orm import Mapper, Session

    from audit_core import AuditTrail
    from audit_core.orm.sqlalchemy import SQLAlchemyAuditor, flush

    if not _state:
        outcomes.count_events()
        _hide_our_statements()
        _state["trail"] = AuditTrail("memory:", lifecycle=False)
        event.listen(Mapper, "before_insert", _still_there)  # beside those of flush.py, which its import has made
    elif not event.contains(Mapper, "before_insert", _still_there):
        flush._listen()
        event.listen(Mapper, "before_insert", _still_there)
    listeners = Session.dispatch.before_flush._clslevel.get(Session, ())
    if not any(isinstance(getattr(one, "__self__", None), SQLAlchemyAuditor) for one in listeners):
        SQLAlchemyAuditor(_state["trail"]).attach(Session)


def _still_there(*_):
    """Goes when all listeners of mappers go."""


def _hide_our_statements():
    """From ``assert_engine``, on which all that compares and counts is built; and what capture adds to others."""
    from sqlalchemy.testing import assertsql

    class Statements(list):
        def append(self, one):
            if not _is_ours():
                super().append(one)

    begin, compare = assertsql.SQLAsserter.__init__, assertsql.CompiledSQL._compare_sql

    def beginning(self):
        begin(self)
        self.accumulated = Statements()

    def comparing(self, observed, received):
        expected = copy.copy(self)
        expected.statement = _without_returning(self.statement)
        return compare(expected, observed, _without_returning(received))

    assertsql.SQLAsserter.__init__ = beginning
    assertsql.CompiledSQL._compare_sql = comparing


def _without_returning(statement):
    return re.sub(r"\s+RETURNING .*", "", statement, flags=re.DOTALL)


_BELOW = ("/sqlalchemy/engine/", "/sqlalchemy/testing/", "/sqlalchemy/event/", "/sqlalchemy/sql/", "/sqlalchemy/util/")


def _is_ours():
    """Whether it was capture that called ``Connection.execute``, and not the unit of work or a session."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not any(part in name for part in _BELOW) and __file__ != name and not name.startswith("<"):
            return "/audit_core/" in name
        frame = frame.f_back
    return False
