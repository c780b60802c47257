"""What X-Forwarded-For and Forwarded may say, and who is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.proxies import TrustedProxies

PROXY = "10.0.0.1"
FORWARDED = TrustedProxies(["10.0.0.0/8"], "Forwarded")


@pytest.mark.parametrize("zone", ["password=hunter2", "a" * 17, "a b", "é"])
def test_a_zone_that_no_interface_can_have_is_dropped(zone):
    assert TrustedProxies(["10.0.0.1"]).client("10.0.0.1", f"fe80::1%{zone}") == "fe80::1"


@pytest.mark.parametrize("zone", ["eth0", "br-lan.7", "1"])
def test_the_zone_of_an_interface_stays(zone):
    assert TrustedProxies(["10.0.0.1"]).client("10.0.0.1", f"fe80::1%{zone}") == f"fe80::1%{zone}"


@pytest.mark.parametrize(("header", "client"), [
    ("for=203.0.113.9", "203.0.113.9"),
    ("For=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
    ('for="203.0.113.9:4711"', "203.0.113.9"),
    ('for="[2001:db8::7]:4711"', "2001:db8::7"),
    ('for="[2001:db8:\\:7]"', "2001:db8::7"),
    ("for=198.51.100.66, for=203.0.113.9, for=10.1.2.3", "203.0.113.9"),
    ('for="198.51.100.66, for=192.0.2.1", for=203.0.113.9', "203.0.113.9"),
    ("proto=https;for=203.0.113.9", "203.0.113.9"),
    (" for=203.0.113.9 ; proto=http ", "203.0.113.9"),
    ("for=10.1.2.3", "10.1.2.3"),
])  # fmt: skip
def test_by_forwarded_the_client_is_the_first_untrusted_from_the_right(header, client):
    assert FORWARDED.client(PROXY, header) == client


@pytest.mark.parametrize(("header", "client"), [
    ("for=203.0.113.9, for=unknown", PROXY),
    ("for=203.0.113.9, for=_hidden", PROXY),
    ("for=203.0.113.9, proto=https", PROXY),
    ("for=203.0.113.9, for=unknown, for=10.1.2.3", "10.1.2.3"),
    ('for="203.0.113.9', PROXY),
    ("203.0.113.9", PROXY),
    ("for=203.0.113.9 for=198.51.100.66", PROXY),
    ("", PROXY),
    (",,,", PROXY),
])  # fmt: skip
def test_what_forwarded_does_not_say_is_not_guessed(header, client):
    assert FORWARDED.client(PROXY, header) == client


def test_a_client_cannot_speak_by_the_header_that_its_proxy_does_not_set():
    with AuditTrail("memory:", trusted_proxies=[PROXY], proxy_header="forwarded", lifecycle=False) as trail:
        assert trail.proxies.header == "forwarded"
    assert FORWARDED.client("203.0.113.9", "for=198.51.100.66") == "203.0.113.9"
    assert TrustedProxies([PROXY]).client(PROXY, "for=198.51.100.66") == PROXY


@pytest.mark.parametrize("peer", [None, "", "unix:/run/web.sock"])
def test_who_comes_by_a_unix_socket_is_trusted_by_that_name_alone(peer):
    assert TrustedProxies(["unix"]).client(peer, "203.0.113.9") == "203.0.113.9"
    assert TrustedProxies(["unix", "10.0.0.0/8"]).client(peer, "203.0.113.9, 10.0.0.7") == "203.0.113.9"
    assert TrustedProxies(["0.0.0.0/0", "::/0"]).client(peer, "203.0.113.9") == (peer or None)
    assert TrustedProxies(["unix"]).client("192.0.2.1", "203.0.113.9") == "192.0.2.1"


@given(st.text(), st.sampled_from(["X-Forwarded-For", "Forwarded"]))
def test_nothing_in_the_header_raises(text, header):
    TrustedProxies(["10.0.0.0/8"], header).client(PROXY, text)


@pytest.mark.parametrize(("networks", "header", "cure"), [
    (["10.0.0.0/99"], "Forwarded", "10.0.0.0/8"), ([], "X-Real-IP", "X-Forwarded-For or Forwarded")
])  # fmt: skip
def test_what_is_neither_a_network_nor_a_header_is_refused_with_the_cure(networks, header, cure):
    with pytest.raises(ConfigurationError, match=cure):
        TrustedProxies(networks, header)
