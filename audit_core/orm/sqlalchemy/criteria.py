"""The rows that an UPDATE or DELETE is going to write: read by the same condition, and the condition told in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, BindParameter, ColumnElement, Connection, Select, and_, exists, literal, or_, select
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import CompileState
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.util import immutabledict

from audit_core.orm.sqlalchemy.mapped import PAGE, take_write_lock
from audit_core.orm.sqlalchemy.readable import readable
from audit_core.orm.sqlalchemy.targets import Written, field_elsewhere

Condition = tuple[ColumnElement[bool], ...]
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


def condition_of(state: ORMExecuteState, target: Written) -> Condition:
    """What the statement asks of a row, with what SQLAlchemy adds for the class and for ``with_loader_criteria``."""
    statement: Any = state.statement
    condition: Condition = tuple(statement._where_criteria)  # noqa: SLF001 - has no public name
    compiler: Any = CompileState._get_plugin_class_for_plugin(statement, "orm")  # noqa: SLF001 - the same
    if target.by_class and compiler is not None:
        added: dict[Any, Any] = {}
        for option in statement._with_options:  # noqa: SLF001 - the same
            if option._is_criteria_option:  # noqa: SLF001 - the same
                option.get_global_criteria(added)
        entity = statement.table._annotations["parententity"]  # noqa: SLF001 - the same
        condition += tuple(compiler._adjust_for_extra_criteria(added, entity))  # noqa: SLF001 - the same
    return condition


def select_rows(
    target: Written, condition: Condition, *also: ColumnElement[Any], places: Sequence[int] | None = None
) -> Select[Any]:
    """The rows that meet the condition, each once, whichever other tables it looks at; ``places`` of them, or all."""
    columns = target.columns if places is None else [target.columns[place] for place in places]
    query = select(*map(readable, columns), *also).select_from(target.table)
    if condition:
        query = query.where(_about_rows(target, condition))
    # Columns of a class would make SQLAlchemy read the class, and join what the statement does not join.
    query._propagate_attrs = immutabledict()  # noqa: SLF001 - the same
    return query


def writes_elsewhere(condition: Condition) -> bool:
    """Whether the condition looks at what another INSERT, UPDATE or DELETE returns: to read by it would write twice."""
    return any(isinstance(one, CTE) and one.element.is_dml for part in condition for one in visitors.iterate(part))


def has_more_than(connection: Connection, query: Select[Any], limit: int, parameters: Parameters = None) -> bool:
    """Whether ``query`` finds more rows than ``limit``."""
    one = query.with_only_columns(literal(1), maintain_column_froms=True).offset(limit).limit(1)
    one._propagate_attrs = immutabledict()  # noqa: SLF001 - the same
    return connection.execute(one, _single(parameters)).first() is not None


def lock_and_read(
    connection: Connection, target: Written, query: Select[Any], limit: int, parameters: Parameters, *, key: bool
) -> list[Any]:
    """The rows before they are written, one more than ``limit`` at most, and locked until the transaction ends.

    ``key`` says that the statement writes the primary key: then others must not refer to the row meanwhile.
    """
    take_write_lock(connection, target.mapper, delete=False)
    locked = query.with_for_update(key_share=not key).limit(limit + 1)
    return list(connection.execute(locked, _single(parameters)))


def conditions_of_each(condition: Condition, parameters: Sequence[Mapping[str, Any]]) -> list[ColumnElement[bool]]:
    """The condition with each set of parameters in it, for a page of sets at a time."""
    each = [_filled(condition, one) for one in parameters]
    return [or_(*each[start : start + PAGE]) for start in range(0, len(each), PAGE)]


def told(condition: Condition, target: Written, parameters: Parameters) -> tuple[str, dict[str, Any]]:
    """The condition as text with names where its values were, and the values by these names."""
    if not condition:
        return "", {}
    whole = _filled(condition, _single(parameters) or {})
    values: dict[str, Any] = {}
    names = _names(whole, target)

    def named(element: Any, **_: Any) -> Any:
        if not isinstance(element, BindParameter):
            return None
        name = names.get(element.key, "value")
        values.setdefault(name, []).append(element.effective_value)
        return BindParameter(name, element.value, type_=element.type, expanding=element.expanding)

    shown = visitors.replacement_traverse(whole, {}, named)
    text = _text(shown)
    for name in values:  # which SQLAlchemy writes without its dot
        text = text.replace(f":{name.replace('.', '_')}", f":{name}")
    return text, {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _filled(condition: Condition, parameters: Mapping[str, Any]) -> ColumnElement[bool]:
    """The condition with the values that were passed beside the statement."""

    def filled(element: Any, **_: Any) -> Any:
        if not isinstance(element, BindParameter) or element.key not in parameters:
            return None
        return BindParameter(element.key, parameters[element.key], type_=element.type, unique=True)

    whole = and_(*condition)
    return visitors.replacement_traverse(whole, {}, filled) if parameters else whole


def _text(condition: ColumnElement[bool]) -> str:
    try:
        return str(condition.compile(compile_kwargs={"render_postcompile": False}))
    except Exception:  # noqa: BLE001 - what only another dialect can write
        return "(a condition that SQLAlchemy cannot write without its database)"


def _names(whole: ColumnElement[bool], target: Written) -> dict[str, str]:
    """For each value the field that it is compared with: the innermost comparison's first.

    One of another class is named with its resource type (``patient.ssn``), so that the rules for it hold.
    """
    fields = dict(zip(target.columns, target.names(range(len(target.columns))), strict=True))
    names: dict[str, str] = {}
    for element in visitors.iterate(whole):
        if isinstance(element, BinaryExpression):
            inside: list[Any] = list(visitors.iterate(element))
            columns = [one for one in inside if getattr(one, "table", None) is not None]
            if columns:
                name = fields.get(columns[0]) or field_elsewhere(columns[0])
                names.update({one.key: name for one in inside if isinstance(one, BindParameter)})
    return names


def _about_rows(target: Written, condition: Condition) -> ColumnElement[bool]:
    """Where the condition looks at other tables, a row that meets it several times is written once all the same."""
    others = {table for one in condition for table in one._from_objects} - {target.table}  # noqa: SLF001 - the same
    return exists().where(*condition).correlate(target.table) if others else and_(*condition)


def _single(parameters: Parameters) -> Mapping[str, Any] | None:
    return parameters if isinstance(parameters, Mapping) else None
