"""What SQLAlchemy knows of an object without asking the database."""

from __future__ import annotations

import sys
from typing import Any


def expired_key(row: object) -> tuple[Any, ...] | None:
    """The primary key of a mapped object that has expired: to read its attributes would be a query, or an error.

    None for everything else.
    """
    if "sqlalchemy.orm" not in sys.modules:  # then nobody has mapped anything
        return None
    from sqlalchemy import inspect
    from sqlalchemy.orm import InstanceState

    state = inspect(row, raiseerr=False)
    return state.identity if isinstance(state, InstanceState) and state.expired_attributes else None
