"""A stream down and an upload up, both larger than what anybody should keep in memory."""

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = bytes(2**20)
MOST_MEBIBYTES = 48  # by which a worker may grow for either
PAUSE_SECONDS = 1.0


def parts(mebibytes: int) -> Iterator[bytes]:
    for _ in range(mebibytes):
        yield CHUNK


async def aparts(mebibytes: int):
    for part in parts(mebibytes):
        yield part


def play(site, mebibytes: int) -> str:
    """Read and write so many, and look how much the worker has grown meanwhile."""
    worker = site.a_worker()
    down, first = _growth(worker, lambda: _down(site.url, mebibytes))
    up, _ = _growth(worker, lambda: _up(site.url, mebibytes))
    assert site.a_worker() == worker
    assert max(down, up) < MOST_MEBIBYTES, (down, up)
    first_byte = f"the first byte after {first * 1000:.0f} ms"
    return f"{mebibytes:,} MiB down, {first_byte}, {down} MiB more memory; as much up, {up} MiB more"


def _down(url: str, mebibytes: int) -> float:
    """Seconds until the first byte; after that nobody reads for a while, and what is made meanwhile lies somewhere."""
    began = time.monotonic()
    with _request(url, f"/large/{mebibytes}") as response:
        read = len(response.read(1))
        first = time.monotonic() - began
        time.sleep(PAUSE_SECONDS)
        while part := response.read(2**20):
            read += len(part)
    assert read == mebibytes * 2**20
    return first


def _up(url: str, mebibytes: int) -> float:
    with _request(url, "/upload", parts(mebibytes), mebibytes * 2**20) as response:
        assert int(response.read()) == mebibytes * 2**20
    return 0.0


def _request(url, path, body=None, length=0):
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=300)
    connection.request("POST", path, body=body, headers={"Content-Length": str(length)})
    response = connection.getresponse()
    assert response.status == 200, response.status
    return response


def _growth(process: int, do):
    """By how many MiB its peak is above what it had before, and what ``do`` answers."""
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")
    before = _memory(process, "VmRSS")
    answer = do()
    return (_memory(process, "VmHWM") - before) // 1024, answer


def _memory(process: int, name: str) -> int:
    """In KiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))
