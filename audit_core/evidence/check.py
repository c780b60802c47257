"""Check a bundle, with nothing but the bundle: see "Bundle" in docs/formats.md.

Written from that page, and apart from what writes bundles: common to both is only the checking of RFC 9162 proofs and
C2SP notes. An attacker who can modify a bundle, or makes one of his own, can leave out events, where the verdict says
that this is not shown, and name a key of his own, which is why the verdict is only OK with a key from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence.check_events import check_events, check_selection
from audit_core.evidence.check_kept import check_kept
from audit_core.evidence.check_keys import check_keys, read_keys
from audit_core.evidence.check_page import check_page
from audit_core.evidence.check_purged import said
from audit_core.evidence.checked import CheckedBundle, Checking, StopError, lines_of, read_json
from audit_core.evidence.opened import OpenedBundle
from audit_core.integrity.note import VerifierKey

FORMAT = 1
_MALFORMED = (IntegrityError, LookupError, TypeError, ValueError, AttributeError)
_MEMBERS = {"format": int, "origin": str, "tree_size": int, "selection": dict, "events": int, "besides": list}


def check_bundle(file: BinaryIO, trusted: Sequence[VerifierKey] = (), kept: Sequence[str] = ()) -> CheckedBundle:
    """Check everything in a bundle; ``trusted`` are keys, and ``kept`` signed checkpoints, both from elsewhere.

    Raises IntegrityError for a file that is no bundle, ConfigurationError for one of a format to come, and where what
    was given belongs to another trail.
    """
    bundle = OpenedBundle(file)
    if "bundle.json" not in bundle.names and "SHA256SUMS" not in bundle.names:
        raise IntegrityError("it is a ZIP file, but no bundle of evidence")
    checking = Checking(bundle)
    try:
        _check_archive(checking)
        _run(checking, "SHA256SUMS", _check_sums)
        for where, part in (("bundle.json", _read_about), ("keys.jsonl", read_keys)):
            _run(checking, where, part, needed=True)
        _run(checking, "checkpoint.txt", _check_head, needed=True)
    except StopError:
        return checking.found
    _run(checking, "records.jsonl", check_events)
    _run(checking, "keys.jsonl", partial(check_keys, trusted=trusted))
    _run(checking, "bundle.json", check_selection)
    _run(checking, "records.jsonl", _hear)
    _run(checking, "consistency.jsonl", partial(check_kept, mine=kept))
    _run(checking, "evidence.html", check_page)
    if checking.question and not checking.found.faults:
        raise ConfigurationError(checking.question)
    return checking.found


def _run(checking: Checking, where: str, part: Callable[[Checking], None], *, needed: bool = False) -> None:
    try:
        part(checking)
    except StopError:
        raise
    except IntegrityError as error:
        checking.fault(where, str(error))
        if needed:
            raise StopError(str(error)) from error


def _check_archive(checking: Checking) -> None:
    for bomb in checking.bundle.bombs():
        checking.stop("archive", bomb)
    for fault in checking.bundle.faults():
        checking.fault("archive", fault)


def _check_sums(checking: Checking) -> None:
    bundle, listed = checking.bundle, dict[str, str]()
    there = set(bundle.names)
    for line in lines_of(bundle.text("SHA256SUMS")):
        digest, _, name = line.partition("  ")
        if name in listed:
            checking.fault("SHA256SUMS", f"{name[:200]} stands there twice")
        listed[name] = digest
    for name in dict.fromkeys([*listed, *bundle.names]):
        if name == "SHA256SUMS":
            continue
        if name not in listed or name not in there:
            checking.fault("SHA256SUMS", f"{name[:200]} {'has no sum' if name not in listed else 'is not there'}")
        elif (got := _digest(bundle, name)) != listed[name]:
            checking.fault(name, f"it is not the file that was written: expected SHA-256 {listed[name]}, got {got}")


def _hear(checking: Checking) -> None:
    ring, found = said(checking), checking.found
    found.revoked = [(one.sequence, str(one.key), one.since, one.reason) for one in ring.revocations]
    found.restored = [(one.sequence, one.lost, one.lost_from, one.reason) for one in ring.restorations]


def _digest(bundle: OpenedBundle, name: str) -> str:
    try:
        return bundle.digest(name)
    except IntegrityError as error:
        return str(error)


def _read_about(checking: Checking) -> None:
    try:
        about: dict[str, Any] = read_json(checking.bundle.text("bundle.json"))
        wrong = [name for name, kind in _MEMBERS.items() if type(about[name]) is not kind]
        wrong += [] if all(type(sequence) is int for sequence in about["besides"]) else ["besides"]
    except _MALFORMED as error:
        checking.stop("bundle.json", f"it cannot be read ({error})")
    if wrong:
        checking.stop("bundle.json", f"the member {wrong[0]} has the wrong type")
    if about["format"] != FORMAT and not checking.found.faults:
        raise ConfigurationError(f"This bundle has the format {about['format']}: a later audit-core checks it.")
    if about["format"] != FORMAT:
        checking.stop("bundle.json", f"it has the format {about['format']}")
    checking.about = about
    found = checking.found
    found.origin, found.tree_size, found.selection = about["origin"], about["tree_size"], about["selection"]
    found.events, found.besides = about["events"], len(about["besides"])


def _check_head(checking: Checking) -> None:
    head = checking.head = checking.open(checking.bundle.text("checkpoint.txt"))
    if head.size != checking.about["tree_size"]:
        checking.fault("bundle.json", f"it names a tree of {checking.about['tree_size']}, and not of {head.size}")
    checking.found.tree_size = head.size
