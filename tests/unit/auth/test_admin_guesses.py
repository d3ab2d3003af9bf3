"""Guesses of the admin key: slowed by network, the right key never."""

from __future__ import annotations

import asyncio

import pytest

from shared.auth.admin_guesses import DELAY_S, MAX_DELAYED, MAX_NETWORKS, MAX_WRONG_KEYS, WINDOW_S, AdminGuesses
from shared.auth.credentials import network_of
from shared.errors import RateLimited
from shared.http.endpoint import EndpointApp
from shared.http.manifest import Manifest
from tests.support.edge import ADMIN, FakeServices, ask

ADDRESS, OTHER = "192.0.2.7", "198.51.100.9"
OWN = {"credentials": {"gemini_api_key": "AQ.callers-own-key"}}


class Times:
    """Both clocks of the guesses; each sleep is noted and ends at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def guesses(times: Times) -> AdminGuesses:
    return AdminGuesses(times, times.sleep)


async def refused(guesses: AdminGuesses, address: str) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await guesses.wrong_key(address)
    return caught.value


async def test_ten_wrong_keys_a_minute_are_answered_at_once(guesses: AdminGuesses, times: Times) -> None:
    for _ in range(MAX_WRONG_KEYS):
        await guesses.wrong_key(ADDRESS)
    assert times.slept == []
    error = await refused(guesses, ADDRESS)
    assert (times.slept, error.retry_after_s) == ([DELAY_S], WINDOW_S)
    assert "Admin-API-Key" in error.message
    await guesses.wrong_key(OTHER)


async def test_after_the_time_named_a_guess_is_answered_again(guesses: AdminGuesses, times: Times) -> None:
    for number in range(MAX_WRONG_KEYS + 5):
        times.now_s += 1
        if number < MAX_WRONG_KEYS:
            await guesses.wrong_key(ADDRESS)
        else:
            error = await refused(guesses, ADDRESS)
    assert error.retry_after_s is not None
    times.now_s += error.retry_after_s
    await guesses.wrong_key(ADDRESS)


async def test_an_ipv6_network_counts_as_one(guesses: AdminGuesses) -> None:
    for number in range(MAX_WRONG_KEYS):
        await guesses.wrong_key(f"2001:db8:1:2::{number:x}")
    await refused(guesses, "2001:db8:1:2:ffff::1")
    await guesses.wrong_key("2001:db8:1:3::1")


def test_an_ipv4_address_is_one_however_it_is_written() -> None:
    assert network_of("::ffff:192.0.2.7") == network_of("::ffff:c000:207")
    assert network_of("unknown") == "ip:unknown"


async def test_the_number_of_delayed_requests_is_bounded() -> None:
    started, release = [0], asyncio.Event()

    async def sleep(_: float) -> None:
        started[0] += 1
        await release.wait()

    guesses = AdminGuesses(lambda: 0.0, sleep)
    for _ in range(MAX_WRONG_KEYS):
        await guesses.wrong_key(ADDRESS)
    waiting = [asyncio.create_task(refused(guesses, ADDRESS)) for _ in range(MAX_DELAYED)]
    await asyncio.sleep(0)
    await refused(guesses, ADDRESS)
    assert started == [MAX_DELAYED]
    release.set()
    await asyncio.gather(*waiting)
    await refused(guesses, ADDRESS)
    assert started == [MAX_DELAYED + 1]


async def test_the_number_of_networks_is_bounded(guesses: AdminGuesses) -> None:
    for number in range(3 * MAX_NETWORKS):
        await guesses.wrong_key(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guesses._wrong) == MAX_NETWORKS


@pytest.fixture
def services(guesses: AdminGuesses) -> FakeServices:
    made = FakeServices()
    made.admin_guesses = guesses
    return made


@pytest.fixture
def edge(services: FakeServices) -> EndpointApp:
    async def handler(call: object) -> dict[str, object]:
        return {}

    manifest = Manifest("thing", "Does a thing.", {"/chat": ("POST",)}, "credential", 1, 1, 1, 1, ())
    return EndpointApp(handler, manifest, services=lambda: services)


async def test_the_right_key_is_served_while_guesses_wait(edge: EndpointApp, times: Times) -> None:
    """From the same address: an innocent caller may share it with whoever guesses."""
    wrong = {"admin-api-key": "not-the-admin-key"}
    statuses = [(await ask(edge.answer, json={}, headers=wrong)).status for _ in range(MAX_WRONG_KEYS + 2)]
    assert statuses == [401] * MAX_WRONG_KEYS + [429] * 2
    assert times.slept == [DELAY_S] * 2
    assert (await ask(edge.answer, json={}, headers=ADMIN)).status == 200
    assert (await ask(edge.answer, json=OWN)).status == 200
    assert len(times.slept) == 2


async def test_a_made_up_key_beside_it_does_not_hide_a_guess(edge: EndpointApp) -> None:
    headers = {"admin-api-key": "not-the-admin-key"}
    statuses = [(await ask(edge.answer, json=OWN, headers=headers)).status for _ in range(MAX_WRONG_KEYS + 1)]
    assert statuses == [200] * MAX_WRONG_KEYS + [429]
