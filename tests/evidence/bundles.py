"""Bundles made by hand, and by somebody who changes one and mends every sum after it."""

from __future__ import annotations

import io
import json
import zipfile
from hashlib import sha256
from importlib import resources

from audit_core import AuditTrail, VerifierKey
from audit_core.evidence.bundle import write_bundle
from audit_core.evidence.check import check_bundle
from audit_core.evidence.selection import Selection
from audit_core.normalise import normalise
from audit_core.query import EventQuery
from tests.reports.trails import ORIGIN, OURS, THEIRS, about, event, make_trail, seal

KEY = VerifierKey(ORIGIN, OURS.public_key)
HOSTILE = "</script><script>document.title='owned'</script>\u2028\u202eevil\x1b[31m<!--\0"
PAGE = resources.files("audit_core.evidence").joinpath("evidence.html").read_text(encoding="utf-8")
HEAD, TAIL = PAGE.split("@EVIDENCE@")


def select(sample=None, seed=None, **query):
    return Selection(EventQuery(newest_first=False, **query), sample, seed)


def clinic(path, count=12):
    """A trail of ``count`` events and log.created, in two batches."""
    trail = make_trail(path)
    changes = {"phone": {"old": "030 1", "new": "030 2"}, "ward": {"old": None, "new": "B"}}
    events = [
        about(str(40 + n % 3), n, actor_id="bob" if n % 4 == 1 else "amina", action="update" if n % 2 else "create",
              outcome="denied" if n % 5 == 4 else "success", details={"changes": changes})
        for n in range(count)
    ]  # fmt: skip
    seal(trail, events[: count // 2])
    kept = trail.chain.checkpoint_note()
    seal(trail, events[count // 2 :])
    trail.close()
    return path, kept


def reader(path, **more):
    """The trail as an auditor opens it, who has not its key: that he reads leaves no event, and the trail as it is."""
    return AuditTrail(f"sqlite:///{path}", signer=THEIRS, lifecycle=False, create=False, **more)


def write(trail, path, selection=None, **more):
    """A bundle of a trail, or of the one that lies at a path."""
    if isinstance(trail, AuditTrail):
        write_bundle(trail, selection or select(), path, **more)
        return path
    with reader(trail) as opened:
        return write(opened, path, selection, **more)


def check(path, *keys, kept=()):
    content = path if isinstance(path, bytes) else path.read_bytes()
    return check_bundle(io.BytesIO(content), keys, kept)


def files_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def data_of(files):
    page = files["evidence.html"].decode()
    return json.loads(page[len(HEAD) : len(page) - len(TAIL)])


def page_of(data):
    return f"{HEAD}{json.dumps(data, ensure_ascii=False).replace('<', chr(92) + 'u003c')}{TAIL}".encode()


def packed(files, *, show=True, add_sums=True):
    """The archive of these files, with sums that fit, and (``show``) a page that shows them."""
    files = dict(files)
    if show:
        data = data_of(files)
        data["files"] = {name: files[name].decode() for name in data["files"] if name in files}
        data["records"] = files["records.jsonl"].decode().split("\n")[:-1]
        files["evidence.html"] = page_of(data)
    if add_sums:
        files.pop("SHA256SUMS", None)
        sums = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
        files["SHA256SUMS"] = sums.encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = b"sha256:" + b"0" * 64
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return sealed(out.getvalue())


def sealed(archive):
    return archive[:-64] + sha256(archive[:-71]).hexdigest().encode()


def lines(content):
    return content.decode().split("\n")[:-1]


def joined(some):
    return "".join(f"{line}\n" for line in some).encode()


def changed(content, **members):
    """A file of JSON with other members."""
    return json.dumps(json.loads(content) | members).encode()


def hostile(path):
    """A trail in which everybody has a name to attack with, and one event is huge."""
    trail = make_trail(path)
    named = {"actor_id": HOSTILE, "user_agent": HOSTILE, "resource_type": "patient", "resource_id": HOSTILE}
    details = {"changes": {HOSTILE: {"old": HOSTILE, "new": "x" * 30_000}}, HOSTILE: [HOSTILE]}
    seal(trail, [event(0, **normalise(action="GET </script>", details=details, **named))])
    trail.close()
    return path
