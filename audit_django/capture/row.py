"""What a statement did to one row."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Model

from audit_django.rows import Key, Values


@dataclass(slots=True)
class Row:
    """One row of one table, before and after a statement. The key is the one that it has after it."""

    action: str  # create, update or delete
    model: type[Model]  # the concrete one
    key: Key
    old: Values
    new: Values
