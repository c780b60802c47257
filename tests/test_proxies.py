"""What X-Forwarded-For may say."""

import pytest

from audit_core.proxies import TrustedProxies


@pytest.mark.parametrize("zone", ["password=hunter2", "a" * 17, "a b", "é"])
def test_a_zone_that_no_interface_can_have_is_dropped(zone):
    assert TrustedProxies(["10.0.0.1"]).client("10.0.0.1", f"fe80::1%{zone}") == "fe80::1"


@pytest.mark.parametrize("zone", ["eth0", "br-lan.7", "1"])
def test_the_zone_of_an_interface_stays(zone):
    assert TrustedProxies(["10.0.0.1"]).client("10.0.0.1", f"fe80::1%{zone}") == f"fe80::1%{zone}"
