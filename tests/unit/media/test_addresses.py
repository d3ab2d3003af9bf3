"""Only public addresses are connected to for a caller."""

from __future__ import annotations

import pytest

from shared.media.addresses import is_public


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "142.250.72.1", "2606:4700::1111", "2a00:1450:4001:80b::200e", "64:ff9b::8.8.8.8", "192.88.98.1"],
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "192.88.99.1",
        "192.88.99.255",
        "64:ff9b::192.88.99.1",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.5",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "3fff::1",
        "4000::1",
        "localhost",
        "",
        "2130706433",
        "0x7f.1",
        "127.1",
    ],
)
def test_every_other_is_not(address: str) -> None:
    assert not is_public(address)
