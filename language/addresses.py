"""Which addresses a server may have: the guard against requests to places nobody meant.

An address is taken from the operator's file, resolved once, and connected to as resolved: a name
that resolves to something else a moment later changes nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from records.errors import RecordError

_PORTS = {"http": 80, "https": 443}


class ForbiddenAddressError(ValueError):
    """A server's name resolves to an address that the operator did not allow."""


class Origin(NamedTuple):
    """Where a server is: what its URL may hold and no more."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme == "https"


def origin_of(url: str) -> Origin:
    """Return the parts of a server's URL.

    Raises:
        RecordError: Another scheme than http or https, a user name, a path, a query or no host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RecordError("url", f"{url!r} is no URL: {error}") from error
    if parts.scheme not in _PORTS:
        raise RecordError("url", f"{url!r} must begin with http:// or https://")
    if not parts.hostname or "@" in parts.netloc:
        raise RecordError("url", f"{url!r} must hold a host and no user name")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise RecordError("url", f"{url!r} must end after the port")
    return Origin(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def allowed_addresses(origin: Origin, networks: Sequence[str]) -> list[str]:
    """Return the addresses of `origin`, all of them allowed.

    Private addresses must lie in one of `networks`, which are also where plain http may go.

    Raises:
        ForbiddenAddressError: One address is not allowed; says which and what to do.
        OSError: The name does not resolve.
    """
    allowed = [ipaddress.ip_network(network, strict=False) for network in networks]
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    for text in addresses:
        address = _plain(text)
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise ForbiddenAddressError(f"{origin.host} is {text}, which is never asked")
        if any(address in network for network in allowed):
            continue
        if not address.is_global:
            raise ForbiddenAddressError(
                f"{origin.host} is {text}, a private address outside networks "
                f"[{', '.join(networks)}]; add its network to the server's entry if it is yours"
            )
        if not origin.is_secure:
            raise ForbiddenAddressError(
                f"{origin.host} is {text}, a public address: prompts go there by https alone"
            )
    return addresses


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address; an IPv4 one in IPv6 dress counts as what it is."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
