"""Look-ups of names: each caller has a share, and silent name servers hold nobody else up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from shared.media.look_ups import MAX_AT_ONCE, MAX_OF_ONE, MAX_OF_STRANGERS, Asker, LookUps
from tests.support.whole_path import eventually

KNOWN = Asker("name:team-a", stranger=False)


def stranger(number: int) -> Asker:
    return Asker(f"ip:192.0.2.{number}", stranger=True)


class SilentServers:
    """Names that end in `.silent` are answered when `go` is set, others at once with one address."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if host.endswith(".silent"):
            self.go.wait(60)
        if host.endswith(".unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", port))]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentServers]:
    servers = SilentServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers.getaddrinfo)
    yield servers
    servers.go.set()


async def test_an_address_is_found_and_an_error_is_raised(servers: SilentServers) -> None:
    look_ups = LookUps()
    assert await look_ups.resolve(KNOWN, "images.example", 443) == ["203.0.113.1"]
    with pytest.raises(OSError, match="not known"):
        await look_ups.resolve(KNOWN, "images.unknown", 443)
    assert not look_ups._running


@pytest.mark.parametrize("innocent", [KNOWN, stranger(200)])
async def test_silent_name_servers_starve_nobody(servers: SilentServers, innocent: Asker) -> None:
    look_ups = LookUps()
    tasks = [
        asyncio.create_task(look_ups.resolve(stranger(number), f"{number}.silent", 443))
        for number in range(24)
        for _ in range(5)
    ]
    await eventually(lambda: len(servers.asked) == 24 * MAX_OF_ONE)
    assert await asyncio.wait_for(look_ups.resolve(innocent, "images.example", 443), 10)
    servers.go.set()
    await asyncio.gather(*tasks)
    assert not look_ups._running


async def test_a_look_up_counts_until_its_thread_ends(servers: SilentServers) -> None:
    """Also when nobody waits for it any more: otherwise each retry would take another thread."""
    look_ups = LookUps()
    for _ in range(MAX_OF_ONE):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(look_ups.resolve(KNOWN, "a.silent", 443), 0.05)
    waiting = asyncio.create_task(look_ups.resolve(KNOWN, "images.example", 443))
    await eventually(lambda: len(servers.asked) >= MAX_OF_ONE)
    await asyncio.sleep(0.05)
    assert servers.asked == ["a.silent"] * MAX_OF_ONE
    servers.go.set()
    assert await asyncio.wait_for(waiting, 10) == ["203.0.113.1"]
    # The second silent thread may end after the look-up that took the first one's place.
    await eventually(lambda: not look_ups._running)


async def test_strangers_leave_room_for_known_callers(servers: SilentServers) -> None:
    look_ups = LookUps()
    tasks = [
        asyncio.create_task(look_ups.resolve(stranger(number), f"{number}.silent", 443))
        for number in range(MAX_AT_ONCE)
    ]
    await eventually(lambda: len(servers.asked) == MAX_OF_STRANGERS)
    assert await asyncio.wait_for(look_ups.resolve(KNOWN, "images.example", 443), 10)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    servers.go.set()
    await eventually(lambda: not look_ups._running)
    assert (look_ups._strangers, look_ups._waiting) == (0, {})


async def test_a_turn_that_is_left_goes_to_the_next(servers: SilentServers) -> None:
    look_ups = LookUps()
    first = [asyncio.create_task(look_ups.resolve(KNOWN, "a.silent", 443)) for _ in range(MAX_OF_ONE)]
    await eventually(lambda: len(servers.asked) == MAX_OF_ONE)
    left, next_one = (asyncio.create_task(look_ups.resolve(KNOWN, f"{name}.example", 443)) for name in "bc")
    await asyncio.sleep(0)
    left.cancel()
    servers.go.set()
    await asyncio.gather(*first)
    assert await asyncio.wait_for(next_one, 10)
    assert "b.example" not in servers.asked
