"""Receipts of a time-stamp authority and of a witness in a bundle, checked there by the means of others."""

import shutil

import pytest

from audit_core.evidence.checked import Verdict
from audit_core.integrity.cosignature import CosignerKey, open_cosignature
from tests.anchors.servers import Authority, Witness, openssl, serving
from tests.evidence.bundles import KEY, check, clinic, files_of, packed, reader, select, write
from tests.reports.trails import about, make_trail, seal

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")


def anchored(path, url):
    """A trail that was anchored there, and then grew."""
    clinic(path)
    with make_trail(path) as trail, trail.anchoring.to([url]):
        assert [state.trouble for state in trail.anchor_now()] == [None]
        seal(trail, [about("9", 100)])


def test_a_time_stamp_is_what_openssl_reads(tmp_path):
    authority = Authority(tmp_path / "authority")
    with serving(authority.answer) as server:
        url = f"tsa+{server.url}?ca={authority.ca}&receipts={tmp_path}/receipts"
        anchored(tmp_path / "trail.db", url)
        with reader(tmp_path / "trail.db", anchors=[url]) as trail:
            path = write(trail, tmp_path / "bundle", select(actor="bob"))
    files = files_of(path)
    (tmp_path / "note").write_bytes(files["kept/1-13.checkpoint"])
    (tmp_path / "stamp").write_bytes(files["kept/1-13.tsr"])
    words = ("ts", "-verify", "-data", "note", "-in", "stamp", "-CAfile", authority.ca)  # of README.txt
    assert openssl(tmp_path, *words, check=False).returncode == 0
    checked = check(path, KEY)
    assert (checked.verdict, checked.receipts) == (Verdict.OK, 1)
    other = packed(files | {"kept/1-13.tsr": b"of something else"})
    assert "kept/1-13.checkpoint: kept/1-13.tsr is no time stamp of it" in map(str, check(other, KEY).faults)


def test_a_cosignature_stands_under_its_checkpoint(tmp_path):
    witness = Witness(str(KEY))
    with serving(witness.answer) as server:
        url = f"witness+{server.url}?key={witness.vkey.replace('+', '%2B')}&receipts={tmp_path}/receipts"
        anchored(tmp_path / "trail.db", url)
        with reader(tmp_path / "trail.db", anchors=[url]) as trail:
            path = write(trail, tmp_path / "bundle", select(actor="bob"))
    note = files_of(path)["kept/1-13.checkpoint"].decode()
    assert open_cosignature(note, CosignerKey.parse(witness.vkey)) > 0
    checked = check(path, KEY)
    assert (checked.verdict, checked.kept[0][:2]) == (Verdict.OK, (13, "the witness witness.example/w1"))
