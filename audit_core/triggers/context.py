"""Who acts, told to the database for the length of a transaction.

A bind parameter, never SQL text; and local to the transaction, so that nothing of it is left for whoever gets the
pooled connection next. It is the application's word: whoever may run statements as the application can say anything.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Any

from audit_core.compose import surroundings_of, within
from audit_core.context import AuditContext, said
from audit_core.private import FIELDS
from audit_core.triggers.tables import dbapi
from audit_core.triggers.told import CONTEXT_FIELDS

SETTING = "audit.context"


def context_text(context: AuditContext | None = None, source: str | None = None, *, erasable: bool = False) -> str:
    """What the triggers are told of ``context``, or of the current one; "" where there is none: nobody says.

    Of an ``erasable`` trail not what is kept outside of records: a trigger can keep nothing apart.
    """
    if (context := context or said()) is None:
        return ""
    fields = surroundings_of(context, source)
    told: dict[str, Any] = {name: fields[name] for name in CONTEXT_FIELDS if fields[name] is not None}
    if erasable:
        told = {name: value for name, value in told.items() if name not in FIELDS}
    if details := within(context):
        told["within"] = details
    if context.told.ended:
        told["after_request"] = True
    return json.dumps(told)  # in ASCII: the application's connection may speak any encoding


def carry_context(connection: Any, context: AuditContext | None = None, *, source: str | None = None) -> None:
    """Tell the triggers who acts, until the transaction of this connection ends: a DB-API one, or SQLAlchemy's.

    A Session of SQLAlchemy is taken for the connection that it has, or now gets.
    Call it in the transaction, before its first write, and again where the actor changes or a savepoint was rolled
    back. On a connection in autocommit it tells nothing.
    """
    if hasattr(connection, "get_bind"):
        connection = connection.connection()
    say(dbapi(connection), context_text(context, source))


def say(connection: Any, text: str) -> None:
    """Set what the triggers read."""
    place = "$1" if "asyncpg" in type(connection).__module__ else "%s"
    with closing(_binding_cursor(connection)) as cursor:
        cursor.execute(f"SELECT set_config('{SETTING}', {place}, true)", (text,))


def _binding_cursor(connection: Any) -> Any:
    """A client's cursor, as Django has, writes parameters into the statement, where the server's log shows them."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(connection, psycopg.Connection):
        binds = not issubclass(connection.cursor_factory, psycopg.ClientCursor)
        return connection.cursor() if binds else psycopg.Cursor(connection)
    return connection.cursor()
