r"""Arrays as PostgreSQL prints them: ``{1,2}``, ``{{a,NULL},{"b,c","d\"e"}}``, ``[0:1]={1,2}``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_TOKEN = re.compile(r'[{},]|"(?:[^"\\]|\\.)*"|(?:[^"\\{},]|\\.)+', re.DOTALL)
_BOUNDS = re.compile(r"(?:\[-?\d+:-?\d+\])+=")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DEEPEST = 6  # dimensions


def parse_array(text: str, read: Callable[[str], Any]) -> list[Any]:
    """The values, each read by ``read``. Raises ValueError for what is no array."""
    outermost: list[Any] = []
    open_lists = [outermost]
    place = bounds.end() if (bounds := _BOUNDS.match(text)) else 0
    while place < len(text):
        if (token := _TOKEN.match(text, place)) is None or len(open_lists) > _DEEPEST + 1:
            raise ValueError(text[:40])
        place, found = token.end(), token[0]
        if found == "{":
            inner: list[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif found == "}":
            open_lists.pop()
            if not open_lists:
                raise ValueError(text[:40])
        elif found != ",":
            open_lists[-1].append(_element(found, read))
    if len(open_lists) != 1 or len(outermost) != 1 or not isinstance(outermost[0], list):
        raise ValueError(text[:40])
    return outermost[0]


def _element(token: str, read: Callable[[str], Any]) -> Any:
    if token == "NULL":  # noqa: S105 - no password
        return None
    inside = token[1:-1] if token.startswith('"') else token
    return read(_ESCAPED.sub(r"\1", inside))
