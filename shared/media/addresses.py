"""Which addresses the server may connect to on behalf of a caller: only public ones. Pure.

Sources: IANA's special-purpose registries (as `ipaddress` has them), RFC 6052 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")
_UNICAST = ip_network("2000::/3")
"""All unicast addresses of IPv6 that IANA has allocated."""
_NEVER = [ip_network(text) for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")]
"""Azure's metadata service, which has a public address; the 6to4 relays, which forward to addresses embedded in IPv6
(deprecated by RFC 7526); and networks that some versions of Python do not know (Oracle's metadata service is in the second)."""


def is_public(text: str) -> bool:
    """False for a text that is not an address, and for every address that is not public: private, shared (CGNAT), loopback,
    link-local (where the platforms' metadata services are), multicast, reserved, and IPv6 addresses that embed another one."""
    try:
        # A zone (fe80::1%eth0) names an interface of this machine; it is rejected below.
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None or address.is_site_local or address.sixtofour or address.teredo:
            return False
        if address.ipv4_mapped is not None:
            return False
        if address in _NAT64:
            # DNS64 maps a public IPv4 address to this one in networks with IPv6 only.
            address = IPv4Address(int(address) & 0xFFFFFFFF)
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    known = address.is_global and not address.is_multicast and not address.is_reserved
    return known and not any(address in network for network in _NEVER)
