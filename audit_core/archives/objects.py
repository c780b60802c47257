"""An archived month: JSON Lines under gzip, an event in each line. See "Archive" in docs/formats.md."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from audit_core.canonical import MAX_RECORD_BYTES, RECORD_COLUMNS, decode, encode, encode_record
from audit_core.errors import IntegrityError
from audit_core.rows import Row

FORMAT = 1
LEVEL = 6  # of gzip
LONGEST = 4 * MAX_RECORD_BYTES  # of a line, with what may stand beside the record one day
BLOCK = 1 << 20
_DETAILS = RECORD_COLUMNS.index("details")
_MEMBERS = {*RECORD_COLUMNS, "log", "v"}


def write_object(rows: Iterable[Row], log: str, month: str, path: Path) -> None:
    """Write rows, in order of their sequence, to a new file: the same rows make the same bytes.

    Raises IntegrityError for a row that does not fit its hash: what was changed is not archived as if it were whole.
    """
    with path.open("xb") as file, gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        packed.write(encode({"archive": FORMAT, "log": log, "month": month}) + b"\n")
        for row in rows:
            packed.write(_line(row, log))


def _line(row: Row, log: str) -> bytes:
    try:
        record = encode_record(row[:-1], log)
    except (TypeError, ValueError, OverflowError):
        record = b""
    if sha256(b"\x00" + record).hexdigest() != row[-1]:
        raise IntegrityError(
            "An event of this month was changed after it was sealed: nothing is archived; run `audit verify`."
        )
    return b'{"event_hash":"%s","record":%s}\n' % (row[-1].encode(), record)


def read_object(path: Path, log: str) -> Iterator[Row]:
    """The rows of an object, in its order. Raises IntegrityError for what is none, or of another chain."""
    try:
        with gzip.open(path) as file:
            head = decode(file.readline(LONGEST))
            if not isinstance(head, dict) or (head.get("archive"), head.get("log")) != (FORMAT, log):
                raise IntegrityError(f"{path.name} is no archive of {log}.")
            while line := file.readline(LONGEST):
                yield _row(line, path, log)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise IntegrityError(f"{path.name} is no archive: {error}.") from error


def _row(line: bytes, path: Path, log: str) -> Row:
    found: Any = decode(line)
    record = found.get("record") if isinstance(found, dict) else None
    if not isinstance(record, dict) or record.keys() != _MEMBERS or record["log"] != log:
        raise IntegrityError(f"{path.name} has a line that is no event of {log}.")
    values = [record[name] for name in RECORD_COLUMNS]
    values[_DETAILS] = encode(values[_DETAILS]).decode()
    return (*values, found.get("event_hash"))


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256, in hex, and the size of a file in bytes."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
