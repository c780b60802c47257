"""The SQL of a table's triggers. What has no limit of its own (names, columns) is quoted; values are never in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib import resources
from typing import Any

from audit_core.redaction import Redactor
from audit_core.redaction.rules import MASK, REDACTED
from audit_core.triggers.rules import Rules, Treatment
from audit_core.triggers.tables import Table, literal, quoted
from audit_core.triggers.told import VERSION

TRIGGERS = {
    "audit_create": ("INSERT", "NEW TABLE AS new_rows"),
    "audit_update": ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    "audit_delete": ("DELETE", "OLD TABLE AS old_rows"),
    "audit_truncate": ("TRUNCATE", ""),
}
_EVENTS = {"INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}  # pg_trigger.tgtype, after each statement
_ARGUMENTS = 90  # a function of PostgreSQL takes at most 100
_SETTINGS = "\nSET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'"
_EVENT_ID = (  # RFC 9562 5.7, from milliseconds and a random UUID
    "encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM "
    "clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid::text"
)


def shared_sql(schema: str) -> str:
    """What the functions of all tables need."""
    return re.sub(r"\baudit(?=\.audit_)", quoted(schema), _read("capture.sql"))


def function_name(schema: str, table: Table) -> str:
    """The function of a table. A name of 63 bytes has no room for another one beside it."""
    digest = sha256(f"{table.schema}.{table.name}".encode()).hexdigest()[:16]
    return f"{quoted(schema)}.audit_tell_{digest}"


def table_sql(table: Table, rules: Rules, schema: str, version: int, owner: str | None) -> str:
    """The function and the triggers of one table; may be run again."""
    function = function_name(schema, table)
    lines = [function_sql(table, rules, schema, version)]
    lines += [f"COMMENT ON FUNCTION {function}() IS {literal(rules.as_text())};"]
    if owner is not None:
        lines.append(f"ALTER FUNCTION {function}() OWNER TO {quoted(owner)};")
    for name in wanted_triggers(table):
        event, rows = TRIGGERS[name]
        referencing = f" REFERENCING {rows}" if rows else ""
        lines.append(
            f"CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table.full_name}{referencing}\n"
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}();"
        )
    return "\n".join(lines)


def wanted_triggers(table: Table) -> list[str]:
    """A partitioned table holds no rows itself: its parts say that they were emptied."""
    return [name for name in TRIGGERS if name != "audit_truncate" or not table.is_partitioned]


def trigger_shape(name: str) -> str:
    """When a trigger fires and what it is given, as the catalogue has it; a condition or columns would follow."""
    event, rows = TRIGGERS[name]
    return " ".join([str(_EVENTS[event]), *re.findall(r"\w+_rows", rows)])


def function_sql(table: Table, rules: Rules, schema: str, version: int) -> str:
    """The function that tells of one table."""
    parts = _Function(table, rules, schema).parts()
    parts |= {"event_id": "uuidv7()::text" if version >= 180_000 else _EVENT_ID, "limit": str(rules.limit)}
    quote = "$audit$"
    while any(quote in part for part in parts.values()):  # a column may have any name
        quote = f"{quote[:-1]}_$"
    return _read("table.sql").format(quote=quote, version=VERSION, **parts)


def function_body(table: Table, rules: Rules, schema: str, version: int) -> str:
    """What PostgreSQL keeps of it."""
    text = function_sql(table, rules, schema, version)
    quote = re.search(r"(?<= AS )\$audit_*\$", text)
    return text.split(quote[0])[1] if quote else ""


class _Function:
    """What is different in every table's function."""

    def __init__(self, table: Table, rules: Rules, schema: str) -> None:
        self.table, self.treatments, self.rules = table, rules.treatments, rules
        self.schema = quoted(schema)
        told = [column for column in table.columns if self.treatments.get(column.name, "exclude") != "exclude"]
        self.places = {column.name: f"c{place}" for place, column in enumerate(told)}
        self.kinds = {column.name: column.kind for column in told}
        self.is_plain = all(column.is_plain for column in told)
        self.function = function_name(schema, table)

    def parts(self) -> dict[str, str]:
        """For the template."""
        return {
            "function": self.function,
            "settings": "" if self.is_plain else _SETTINGS,
            "about": literal(self._about()),
            "outbox": f"{self.schema}.audit_outbox",
            "missing": ", ".join(f"NULL::text AS {quoted(name)}" for name in self.places) or "NULL",
            "values": ", ".join(_value(quoted(name), place) for name, place in self.places.items()) or "NULL",
            "new_key": self._key("n"),
            "old_key": self._key("o"),
            "created": _joined(self._present("n", name) for name in self.places),
            "deleted": _joined(self._present("o", name) for name in self.places),
            "updated": _joined(self._difference(name) for name in self.places),
        }

    def _about(self) -> str:
        """What is the same in every event: members of its JSON object."""
        told = {name: kind for name, kind in self.kinds.items() if kind and self.treatments[name] == "tell"}
        about: dict[str, Any] = {
            "resource_type": self.rules.resource_type,
            "key_fields": [self._called(name) for name in self.table.key],
            "kinds": {self._called(name): kind for name, kind in told.items()},
        }
        if self.rules.database is not None:
            about["database"] = self.rules.database
        return ", " + json.dumps(about, ensure_ascii=False)[1:-1]

    def _called(self, column: str) -> str:
        return self.rules.fields.get(column, column)

    def _member(self, column: str) -> str:
        return literal(f", {json.dumps(self._called(column), ensure_ascii=False)}: [")

    def _written(self, value: str, treatment: Treatment) -> str:
        if treatment == "replace":
            return f"CASE WHEN {value} IS NULL THEN 'null' ELSE '\"{REDACTED}\"' END"
        if treatment == "mask":
            return (
                f"CASE WHEN {value} IS NULL THEN 'null' WHEN length({value}) < 12 THEN '\"{MASK}\"' "
                f"ELSE to_json('{MASK}' || right({value}, 4))::text END"
            )
        return f"{self.schema}.audit_json({value})"

    def _present(self, side: str, name: str) -> str:
        """A field of a row that came or went; absent means NULL."""
        value = f"{side}.{self.places[name]}"
        before, after = ("null, ", "]") if side == "n" else ("", ", null]")
        written = self._written(value, self.treatments[name])
        return f"CASE WHEN {value} IS NOT NULL THEN {self._member(name)} || '{before}' || {written} || '{after}' END"

    def _difference(self, name: str) -> str:
        old, new = (f"{side}.{self.places[name]}" for side in "on")
        both = " || ', ' || ".join(self._written(value, self.treatments[name]) for value in (old, new))
        return f"CASE WHEN {old} IS DISTINCT FROM {new} THEN {self._member(name)} || {both} || ']' END"

    def _key(self, side: str) -> str:
        """The texts of the primary key. One that is itself a secret does not leave the table either."""
        if not self.table.key:
            return "''"
        hidden = any(self.treatments.get(name) != "tell" for name in self.table.key)
        is_text = any(not self.kinds.get(name) for name in self.table.key)
        if hidden or (is_text and Redactor().identifier("x", self.rules.resource_type) != "x"):
            return f"'\"{REDACTED}\"'"
        values = (f"{side}.{self.places[name]}" for name in self.table.key)
        return " || ', ' || ".join(f"{self.schema}.audit_json({value})" for value in values)


def _value(column: str, place: str) -> str:
    """A column's text. By its output function alone: a cast or an operator may be one that somebody has made."""
    return f'CASE WHEN {column} IS DISTINCT FROM NULL THEN concat({column}) COLLATE "C" END AS {place}'


def _joined(parts: Iterable[str]) -> str:
    """One text of all parts; those that are NULL are left out."""
    several = list(parts) or ["''"]
    while len(several) > 1 or not several[0].startswith("concat("):
        several = [_concat(several[start : start + _ARGUMENTS]) for start in range(0, len(several), _ARGUMENTS)]
    return several[0]


def _concat(parts: Sequence[str]) -> str:
    return "concat(" + ",\n    ".join(parts) + ")"


def _read(name: str) -> str:
    return resources.files("audit_core.triggers").joinpath(name).read_text(encoding="utf-8")
