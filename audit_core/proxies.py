"""Where a request came from: the peer, unless it is a proxy that the settings trust."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from audit_core.errors import ConfigurationError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{8,128}")
# W3C Trace Context 3.2.2: version ff is invalid, and so are ids of nothing but zeros.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,16}")  # RFC 4007 11: free text; an interface's name is that long
_PORT = re.compile(r"^(?:\[(?P<v6>[^\]]+)\](?::\d+)?|(?P<v4>\d+\.\d+\.\d+\.\d+):\d+)$")


class TrustedProxies:
    """The addresses and networks of the proxies in front of the application; none by default.

    Raises ConfigurationError for what is neither an address nor a network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        try:
            self._networks: list[_Network] = [ipaddress.ip_network(network, strict=False) for network in networks]
        except ValueError as error:
            raise ConfigurationError(f"Trusted proxies are addresses or networks like 10.0.0.0/8: {error}.") from None

    def trusts(self, address: str | None) -> bool:
        """Whether what this peer says of a request is believed."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str | None, forwarded_for: str) -> str | None:
        """The peer, or the first address of X-Forwarded-For from the right that is not a trusted proxy."""
        client, rest = peer, forwarded_for
        while rest and self.trusts(client):
            rest, _, hop = rest.rpartition(",")
            hop = hop.strip()
            if _parse(hop) is None:  # garbage ends what can be known: the proxy that passed it on is the client
                break
            client = hop
        return client if client is None else str(_parse(client) or client)

    def request_id(self, peer: str | None, offered: str | None) -> str | None:
        """The id that a trusted proxy gave the request, if it is well-formed."""
        if offered and self.trusts(peer) and _REQUEST_ID.fullmatch(offered):
            return offered
        return None

    def trace_id(self, peer: str | None, traceparent: str | None) -> str | None:
        """The distributed trace that a trusted proxy says the request is part of."""
        if traceparent and self.trusts(peer) and (match := _TRACEPARENT.fullmatch(traceparent)):
            return match[1]
        return None


def _parse(address: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not address:
        return None
    if match := _PORT.match(address):
        address = match["v6"] or match["v4"]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed.scope_id is not None and not _ZONE.fullmatch(parsed.scope_id):
        parsed = ipaddress.IPv6Address(int(parsed))
    return parsed.ipv4_mapped or parsed
