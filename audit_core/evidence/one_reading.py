"""That a ZIP file is read in one way alone: programs differ in where they look for names, sizes and files (APPNOTE)."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

_LOCAL = struct.Struct("<4s5H3I2H")  # 4.3.7
_LISTED = struct.Struct("<4s6H3I5H2I")  # 4.3.12: a file in the directory
_LARGE_END = struct.Struct("<4sQ2H2I4Q4sIQI")  # 4.3.14 and 4.3.15, one after the other
_END = struct.Struct("<4s4H2IH")  # 4.3.16
_ZIP64 = 1  # 4.5.3: the one extra field that says nothing of its own
_LARGE = 2**32 - 1  # the number stands in that field
_KIND, _FILE = 0o170000, 0o100000
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def second_readings(file: BinaryIO, archive: zipfile.ZipFile, comment: int) -> Iterator[str]:
    """What another program might read otherwise. ``comment`` is the number of bytes of the comment at the end."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    places = [(info.header_offset, _end_of(file, info)) for info in infos]
    places.append((archive.start_dir, 0))
    if places[0][0] != 0 or any(end != start for (_, end), (start, _) in pairwise(places)):
        yield "it holds more than its files"
    for info in infos:
        if not _is_plain(info) or not _is_said_twice(file, info):
            yield f"the file {info.orig_filename[:200]} is another one for other programs: its headers disagree"
    end = archive.start_dir
    for info in archive.infolist():
        end = _end_of_listed(file, info, end)
    if end < 0:
        yield "its directory holds more than its files"
    elif not _ends_well(file, archive.start_dir, end, len(infos), comment):
        yield "its end says something else than its directory"


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """A file, with one name, and neither encrypted nor compressed in a way that few know."""
    kind = info.external_attr >> 16 & _KIND
    is_file = kind in {0, _FILE} and info.orig_filename == info.filename
    return is_file and info.flag_bits == 0 and info.compress_type in _METHODS


def _is_said_twice(file: BinaryIO, info: zipfile.ZipInfo) -> bool:
    """Whether the header before the file says what the directory does: who reads from the beginning sees only that."""
    file.seek(max(0, info.header_offset))
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        return False
    signature, _, flags, method, _, _, crc, packed, size, name, more = _LOCAL.unpack(header)
    is_large = (packed, size) == (_LARGE, _LARGE)
    sizes = (packed, size) if is_large else (info.compress_size, info.file_size)
    said = signature, flags, method, crc, packed, size, file.read(name), file.read(more)
    there = b"PK\3\4", info.flag_bits, info.compress_type, info.CRC, *sizes, info.filename.encode()
    return said == (*there, _extra(info.file_size, info.compress_size) if is_large else b"")


def _extra(*numbers: int) -> bytes:
    """The only field that may stand there: out of others some programs take another name (4.6.9)."""
    return struct.pack(f"<2H{len(numbers)}Q", _ZIP64, 8 * len(numbers), *numbers) if numbers else b""


def _end_of(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    file.seek(max(0, info.header_offset))  # as it says
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        return -1
    *_, name, extra = _LOCAL.unpack(header)
    return info.header_offset + _LOCAL.size + int(name) + int(extra) + info.compress_size


def _end_of_listed(file: BinaryIO, info: zipfile.ZipInfo, place: int) -> int:
    """Where what the directory says of a file ends that begins at ``place``; -1 where more is in it."""
    if place < 0:
        return -1
    file.seek(place)
    *_, packed, size, name, more, comment, disk, _, _, offset = _LISTED.unpack(file.read(_LISTED.size))
    numbers = ((size, info.file_size), (packed, info.compress_size), (offset, info.header_offset))
    file.seek(name, 1)
    if (comment, disk, file.read(more)) != (0, 0, _extra(*(number for said, number in numbers if said == _LARGE))):
        return -1
    return place + _LISTED.size + int(name) + int(more)


def _ends_well(file: BinaryIO, start: int, end: int, count: int, comment: int) -> bool:
    """As many files as the directory has, in one archive, and the directory where it was read.

    A large archive says that twice, and programs differ in which of the two they believe.
    """
    place = file.seek(0, 2) - comment - _END.size
    if place - end not in {0, _LARGE_END.size}:
        return False
    file.seek(end)
    is_large = place > end
    if is_large and not _says_where(_LARGE_END.unpack(file.read(_LARGE_END.size)), start, end, count):
        return False
    signature, disk, first, here, everywhere, size, offset, length = _END.unpack(file.read(_END.size))
    if (signature, disk, first, here, everywhere, length) != (b"PK\5\6", 0, 0, count, count, comment):
        return False
    return all(said == is_ or (is_large and said == _LARGE) for said, is_ in ((size, end - start), (offset, start)))


def _says_where(large: tuple[Any, ...], start: int, end: int, count: int) -> bool:
    """Whether the second end record (4.3.14), and what leads to it, say the same."""
    signature, length, _, _, *said = large
    return (signature, length, *said) == (
        b"PK\6\6", 44, 0, 0, count, count, end - start, start, b"PK\6\7", 0, end, 1,
    )  # fmt: skip
