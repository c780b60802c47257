"""Alembic leaves the trail's own tables alone: it would propose to drop what no metadata knows.

A plugin of Alembic 1.18 and later, found by its entry point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OWN = re.compile(r"audit_(outbox|checkpoints|lock|private|positions|archived|events(_default|_\d{4}_\d\d)?)")


def setup(plugin: Any) -> None:
    """Called by Alembic."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(leave_out, "autogenerate", priority=DispatchPriority.FIRST)


def leave_out(context: Any, operations: object) -> None:
    """Before anything is compared: tables of ours are not looked at, unless the application has mapped them itself."""
    del operations
    known = {table.name for table in context.sorted_tables}

    def includes(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        del parents
        return kind != "table" or name is None or name in known or not OWN.fullmatch(name)

    context._name_filters.append(includes)  # noqa: SLF001 - what include_name is put into; a plugin has no other way
