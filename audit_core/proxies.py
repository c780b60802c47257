"""Where a request came from: the peer, unless it is a proxy that the settings trust."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from audit_core.errors import ConfigurationError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{8,128}")
# W3C Trace Context 3.2.2: version ff is invalid, and so are ids of nothing but zeros.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,16}")  # RFC 4007 11: free text; an interface's name is that long
# RFC 7239 4: one parameter, and what ends it; a value with other characters stands in quotes.
_FORWARDED = re.compile(r"""[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^ \t",;]*)))?[ \t]*([;,]|$)""")
_HEADERS = ("x-forwarded-for", "forwarded")
UNIX = "unix"  # the peers of a Unix socket, who have no address
_PORT = re.compile(r"^(?:\[(?P<v6>[^\]]+)\](?::\d+)?|(?P<v4>\d+\.\d+\.\d+\.\d+):\d+)$")


class TrustedProxies:
    """The addresses and networks of the proxies in front of the application; none by default.

    ``unix`` is whoever comes by a Unix socket. ``header`` is the one that all of them set, X-Forwarded-For or Forwarded
    (RFC 7239): of the other one they pass on what a client has made up. Raises ConfigurationError for what is neither.
    """

    def __init__(self, networks: Iterable[str] = (), header: str = "X-Forwarded-For") -> None:
        names = [networks] if isinstance(networks, str) else list(networks)
        self._trusts_unix = UNIX in names
        self.header = str(header).lower()
        if self.header not in _HEADERS:
            raise ConfigurationError(f"The header of trusted proxies is X-Forwarded-For or Forwarded, not {header!r}.")
        try:
            self._networks: list[_Network] = [
                ipaddress.ip_network(name, strict=False) for name in names if name != UNIX
            ]
        except ValueError as error:
            raise ConfigurationError(
                f"Trusted proxies are addresses, networks like 10.0.0.0/8, or unix: {error}."
            ) from None

    def trusts(self, address: str | None) -> bool:
        """Whether what this peer says of a request is believed."""
        if not self._networks and not self._trusts_unix:
            return False
        if not address or address.startswith("unix:"):
            return self._trusts_unix
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str | None, forwarded: str) -> str | None:
        """The peer, or the first address of ``header`` from the right that is not a trusted proxy."""
        client = peer
        if self.trusts(peer):
            for hop in reversed(_by_forwarded(forwarded) if self.header == "forwarded" else forwarded.split(",")):
                if _parse(hop.strip()) is None:  # garbage ends what can be known: who passed it on is the client
                    break
                client = hop.strip()
                if not self.trusts(client):
                    break
        return _printed(client) if client else None

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


def _by_forwarded(header: str) -> list[str]:
    """Who passed the request on, by RFC 7239; nobody where the header does not keep to it."""
    hops, hop, place = [], "", 0
    while match := _FORWARDED.match(header, place):
        name, quoted, token, end = match.groups()
        if name and name.lower() == "for":
            hop = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        if end != ";":
            hops.append(hop)
            hop = ""
        if not end:
            return hops
        place = match.end()
    return []


@lru_cache(maxsize=1024)  # whoever asks asks again, and so do the proxies in front of him
def _printed(address: str) -> str:
    return str(_parse(address) or address)


@lru_cache(maxsize=1024)
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
