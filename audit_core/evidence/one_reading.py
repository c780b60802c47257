"""That a ZIP file is read in one way alone: programs differ in where they look for names, sizes and files (APPNOTE)."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

_LOCAL = struct.Struct("<4s5H3I2H")  # 4.3.7
_END = struct.Struct("<4s4H2IH")  # 4.3.16
_ZIP64 = 1  # 4.5.3: the one extra field that says nothing of its own
_LARGE = 2**32 - 1  # the size stands in that field
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
            yield f"the file {info.filename[:200]} is another one for other programs: its headers disagree"
    if not _ends_well(file, len(infos), comment):
        yield "its end says something else than its directory"


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """A file, with one name, and neither encrypted nor compressed in a way that few know."""
    kind = info.external_attr >> 16 & _KIND
    is_file = kind in {0, _FILE} and info.orig_filename == info.filename
    return is_file and info.flag_bits == 0 and info.compress_type in _METHODS and _has_no_other_name(info.extra)


def _has_no_other_name(extra: bytes) -> bool:
    """Some programs take a name out of an extra field (4.6.9) in place of the one that everybody sees."""
    while extra:
        if len(extra) < 4:
            return False
        kind, size = struct.unpack_from("<2H", extra)
        if kind != _ZIP64 or len(extra) < 4 + size:
            return False
        extra = extra[4 + size :]
    return True


def _is_said_twice(file: BinaryIO, info: zipfile.ZipInfo) -> bool:
    """Whether the header before the file says what the directory does: who reads from the beginning sees only that."""
    file.seek(max(0, info.header_offset))
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        return False
    signature, _, flags, method, _, _, crc, packed, size, name, more = _LOCAL.unpack(header)
    names, extra = file.read(name), file.read(more)
    if (packed, size) == (_LARGE, _LARGE) and extra[:4] == struct.pack("<2H", _ZIP64, 16):
        size, packed = struct.unpack_from("<2Q", extra, 4)
    said = signature, flags, method, crc, packed, size, names
    there = b"PK\3\4", info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size
    return said == (*there, info.filename.encode()) and _has_no_other_name(extra)


def _end_of(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    file.seek(max(0, info.header_offset))  # as it says
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size:
        return -1
    *_, name, extra = _LOCAL.unpack(header)
    return info.header_offset + _LOCAL.size + int(name) + int(extra) + info.compress_size


def _ends_well(file: BinaryIO, count: int, comment: int) -> bool:
    """As many files as the directory has, in one archive. Where that lies is settled: the first file lies at 0."""
    file.seek(max(0, file.seek(0, 2) - comment - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size:
        return False
    signature, disk, first, here, everywhere, _, _, length = _END.unpack(end)
    return (signature, disk, first, here, everywhere, length) == (b"PK\5\6", 0, 0, count, count, comment)
