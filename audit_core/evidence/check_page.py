"""Check what people read: the page shows the same evidence as the files, by the program that belongs to it."""

from __future__ import annotations

from importlib import resources
from itertools import zip_longest
from typing import Any

from audit_core.evidence.checked import Checking, read_json
from audit_core.evidence.opened import OpenedBundle

MOST = 1 << 29  # bytes of the largest page that is read: no browser opens a larger one
_NOT_IN_IT = {"README.txt", "evidence.html", "SHA256SUMS", "records.jsonl", "proofs.jsonl"}


def check_page(checking: Checking) -> None:
    """One of another version is no fault: nobody can know what it shows, and this check does not need it."""
    found = checking.found
    head, tail = _own("evidence.html").split("@EVIDENCE@")
    page = checking.bundle.text("evidence.html", MOST) if checking.bundle.size("evidence.html") <= MOST else ""
    if page.startswith(head) and page.endswith(tail):
        _compare(checking, page[len(head) : len(page) - len(tail)])
    else:
        found.strange.append("evidence.html")
    if checking.bundle.text("README.txt") != _own("README.txt"):
        found.strange.append("README.txt")


def _compare(checking: Checking, data: str) -> None:
    bundle, shown = checking.bundle, read_json(data)
    if "<" in data:  # a browser would end the data there, and show what follows as a part of the page
        checking.fault("evidence.html", "there is HTML in its data, with which it can show whatever it likes")
        return
    if not isinstance(shown, dict) or shown.keys() != {"files", "nodes", "records"}:
        checking.fault("evidence.html", "it has other data than the page of a bundle")
        return
    if shown["files"] != {name: bundle.text(name) for name in bundle.names if _is_shown(name)}:
        checking.fault("evidence.html", "it does not show the files that are in the bundle")
    if not _shows_records(shown["records"], bundle):
        checking.fault("evidence.html", "it does not show the records that are in the bundle")
    if shown["nodes"] != [[*span, text] for span, text in sorted(checking.nodes.items())]:
        checking.fault("evidence.html", "its proofs are not those that are in the bundle")


def _is_shown(name: str) -> bool:
    return name not in _NOT_IN_IT and not name.endswith(".tsr")


def _shows_records(shown: Any, bundle: OpenedBundle) -> bool:
    """One by one: they may be many."""
    there = (line.removesuffix(b"\n").decode(errors="replace") for line in bundle.lines("records.jsonl"))
    return isinstance(shown, list) and all(a == b for a, b in zip_longest(shown, there))


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
