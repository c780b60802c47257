"""The page of a bundle: one file that holds its own program and all that it checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

from audit_core.chain.subtrees import Span
from audit_core.integrity.note import encode_base64

PLACE = "@EVIDENCE@"  # stands once in the template, as the whole text of its element for data


def write_page(files: Mapping[str, str], nodes: Mapping[Span, bytes], records: Iterable[bytes]) -> Iterator[bytes]:
    """The page in pieces. ``files`` are the bundle's own, as text; ``nodes`` are all that proofs need, each once."""
    template = resources.files(__package__).joinpath("evidence.html").read_text(encoding="utf-8")
    head, tail = template.split(PLACE)
    yield f'{head}{{"files":{_as_data(files)},\n"nodes":[\n'.encode()
    for number, ((start, stop), node) in enumerate(sorted(nodes.items())):
        yield f'{"," if number else ""}[{start},{stop},"{encode_base64(node)}"]\n'.encode()
    yield b'],\n"records":[\n'
    for number, record in enumerate(records):
        yield f"{',' if number else ''}{_as_data(record.decode())}\n".encode()
    yield f"]}}{tail}".encode()


def _as_data(value: Any) -> str:
    """JSON in which nothing ends the element that it stands in, whatever an attacker has called himself."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
