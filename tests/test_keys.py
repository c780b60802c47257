"""The key file: made once, whole and durable, and for nobody else to read."""

import os
import pwd
import stat

import pytest

from audit_core.errors import ConfigurationError
from audit_core.keys import find_signer, generate_key, load_hash_key, load_signer, signer_place
from tests.reports.trails import as_nobody, let_everybody_in


@pytest.fixture
def synced(monkeypatch):
    """What has been waited for until it was on the disk, in that order."""
    real, seen = os.fsync, []

    def remember(fd):
        seen.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", remember)
    return seen


def test_a_key_that_was_used_is_not_lost_to_a_power_cut(state, synced):
    load_signer()
    assert synced == [len(generate_key()) + 1, "folder"]
    load_signer()
    assert len(synced) == 2


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_key_that_cannot_be_made_leaves_no_draft_behind_and_names_the_cure(state, monkeypatch, step):
    with monkeypatch.context() as full:
        full.setattr(os, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(ConfigurationError, match="AUDIT_STATE_DIR"):
            load_signer()
    assert list(state.iterdir()) == []
    load_signer()
    assert [file.name for file in state.iterdir()] == ["signing.key"]


def test_whoever_makes_the_key_second_takes_that_of_the_first(state, monkeypatch):
    first, real = generate_key(), os.link

    def be_second(draft, path):
        path.write_text(first)
        real(draft, path)

    monkeypatch.setattr(os, "link", be_second)
    assert load_signer().public_key == load_signer({"AUDIT_KEY": first}).public_key
    assert [file.name for file in state.iterdir()] == ["signing.key"]


def test_where_the_key_was_made_is_told_once(state, caplog):
    load_hash_key()
    assert caplog.text == ""
    load_signer()
    assert f"Made a signing key in {state / 'signing.key'}: keep a copy" in caplog.text
    caplog.clear()
    load_signer()
    assert caplog.text == ""


def test_the_place_of_the_key_is_known(state, tmp_path):
    assert signer_place() is None
    load_signer()
    assert signer_place() == str(state / "signing.key")
    assert signer_place({"AUDIT_KEY": generate_key()}) == "AUDIT_KEY"
    assert signer_place({"AUDIT_KEY": f"{tmp_path}/key"}) == f"{tmp_path}/key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_use_is_told_of_once(state, caplog, mode):
    load_hash_key()
    assert caplog.text == ""
    (state / "hash.key").chmod(mode)
    load_hash_key()
    load_hash_key()
    assert caplog.text.count("chmod 600") == 1
    assert "hash.key" in caplog.text


def test_so_is_a_key_file_that_the_environment_names(tmp_path, caplog):
    file = tmp_path / "key"
    file.write_text(generate_key())
    file.chmod(0o644)
    load_signer({"AUDIT_KEY": str(file)})
    assert "chmod 600" in caplog.text


def test_a_user_without_a_home_is_told_the_cure_and_has_no_key(monkeypatch):
    def nobody(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)  # as in a container that is run with any user id
    for load in (load_hash_key, load_signer):
        with pytest.raises(ConfigurationError, match="AUDIT_STATE_DIR"):
            load({})
    assert find_signer({}) is None
    assert load_signer({"AUDIT_KEY": generate_key()})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_whoever_has_the_home_of_another_user_has_no_key(tmp_path):
    let_everybody_in(tmp_path / "home")
    (tmp_path / "home").mkdir(mode=0o700)
    environment = {"XDG_STATE_HOME": str(tmp_path / "home")}
    load_signer(environment)
    assert as_nobody(lambda: find_signer(environment) is not None) == 0
