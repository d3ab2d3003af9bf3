"""A throttle of the server's address: every account is rejected without a quota. Several processes, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest

from shared.clock import elapsed_s
from shared.errors import GatewayError, QueueTimeout
from shared.gateway.address_circuit import KEY, LOOK_S, PROBE_INTERVAL_S, AddressCircuit, Passage
from shared.gemini.errors import UpstreamFailure
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from tests.support.gateways import Processes, accounts_of
from tests.support.virtual_time import run

BARE = "Resource has been exhausted (e.g. check quota)."


def bare() -> UpstreamFailure:
    return UpstreamFailure("pressure", BARE, status=429)


def throttled(
    for_s: float, processes: int, then: Callable[[Processes, float], Awaitable[None]], accounts: int = 4
) -> Processes:
    """`then` gets the time at which the throttle ends; three seconds before it begins, callers keep every process busy."""

    async def main() -> Processes:
        random.seed(7)
        began_s = elapsed_s() + 3.0
        end_s = began_s + for_s

        def judge(account: str, model: str) -> UpstreamFailure | None:
            return bare() if began_s <= elapsed_s() < end_s else None

        found = Processes(accounts_of(accounts), judge, queue_timeout_s=50.0)
        for _ in range(processes):
            found.add()
        async with found.closing():
            tasks = [asyncio.create_task(_keep_asking(found, n % processes)) for n in range(5 * processes)]
            await asyncio.sleep(3.0)
            await then(found, end_s)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in done), done
        return found

    return run(main)


async def _keep_asking(found: Processes, process: int) -> None:
    while True:
        await found.ask(process)


def test_the_fleet_sends_one_probe_per_interval() -> None:
    """20 s of rejections, three processes: no account's state changes, no request fails, and the first success reopens all."""

    opened_s: list[float] = []

    async def then(found: Processes, end_s: float) -> None:
        for _ in range(400):
            await asyncio.sleep(0.01)
            if KEY in found.shelf.entries:
                opened_s.append(elapsed_s())
                break
        await asyncio.sleep(end_s + 5.0 - elapsed_s())
        for ledger in (await found.ledgers()).values():
            assert (ledger.pressure_c, ledger.spend.open_until_ms) == (0, 0)
            assert not any(section.circuit.open_until_ms for section in ledger.sections.values())

    found = throttled(20.0, 3, then)
    rejected = [one for one in found.sent if one.rejected]
    end_s = rejected[0].at_s + 20.0
    # Others were on their way when the circuit opened.
    probes = [one.at_s for one in rejected if one.at_s > opened_s[0] + 0.3]
    assert len(probes) >= 6
    assert all(b - a >= PROBE_INTERVAL_S - 0.2 for a, b in pairwise(probes))
    first_s = min(one.at_s for one in found.sent if not one.rejected and one.at_s > opened_s[0] + 0.3)
    assert first_s - end_s <= PROBE_INTERVAL_S + 0.5
    for process in range(3):
        again_s = min(one.at_s for one in found.sent if one.process == process and one.at_s > first_s)
        assert again_s - first_s <= 1.5


def test_a_request_waits_until_its_deadline() -> None:
    """Its Retry-After is when the next probe is answered."""
    errors: list[GatewayError] = []

    async def then(found: Processes, end_s: float) -> None:
        await asyncio.sleep(2.0)
        began_s = elapsed_s()
        with pytest.raises(QueueTimeout) as caught:
            await found.ask(0, deadline_s=3.0)
        assert elapsed_s() - began_s == pytest.approx(3.0, abs=0.6)
        errors.append(caught.value)

    throttled(20.0, 1, then)
    assert "throttle the server's address" in errors[0].message
    assert 1.0 <= (errors[0].retry_after_s or 0.0) <= PROBE_INTERVAL_S + 1.0


def test_one_account_that_answers_keeps_the_circuit_closed() -> None:
    async def main() -> None:
        bad: set[str] = set()

        def judge(account: str, model: str) -> UpstreamFailure | None:
            if len(bad) < 2:
                bad.add(account)
            return bare() if account in bad else None

        found = Processes(accounts_of(3), judge)
        found.add()
        async with found.closing():
            for _ in range(10):
                assert await found.ask(0) not in bad
            assert not found.gateways[0].address.is_open
            await asyncio.sleep(1.0)
            shrunk = {f"key-{name[-1]}" for name, ledger in (await found.ledgers()).items() if ledger.pressure_c}
            assert shrunk == bad, "the ledger learns of the pressure with the next answer"

    run(main)


def test_with_one_account_nothing_is_read_or_written() -> None:
    async def main() -> None:
        found = Processes(accounts_of(1), lambda account, model: bare())
        found.add()
        async with found.closing():
            with pytest.raises(GatewayError):
                await found.ask(0, deadline_s=4.0)
            assert not found.gateways[0].address.is_open
            assert KEY not in found.shelf.entries
            assert (await found.ledgers())["project-0"].pressure_c > 0

    run(main)


# -- the circuit alone -------------------------------------------------------------------------------------------------


class Circuit(AddressCircuit):
    def __init__(self, shelf: Shelf, accounts: int = 2) -> None:
        self.servers = accounts_of(accounts)
        self.reported: list[str] = []
        super().__init__(MemoryStore(shelf), lambda: self.servers)

    def reject(self, *numbers: int) -> None:
        for number in numbers:
            account = self.servers[number]
            self.rejected(account, partial(self.reported.append, account.id))

    async def probes(self) -> bool:
        """Whether a request is sent now, as a probe."""
        passage = Passage()
        return await self.pass_with_permit(passage) and passage.probe_until_s > 0


def test_every_account_must_be_rejected_in_a_row() -> None:
    async def main() -> None:
        circuit = Circuit(Shelf(), accounts=3)
        circuit.reject(0, 0, 0, 1)
        assert not circuit.is_open
        circuit.answered(elapsed_s())
        assert circuit.reported, "held back until an account was answered"
        circuit.reject(1, 2)
        assert not circuit.is_open
        circuit.reject(0)
        assert circuit.is_open
        await circuit.settle()
        assert len(circuit.reported) == 4, "what opened the circuit is no account's fault"

    run(main)


def test_an_answer_to_an_older_request_proves_nothing() -> None:
    async def main() -> None:
        circuit, sent_s = Circuit(Shelf()), elapsed_s()
        await asyncio.sleep(1)
        circuit.reject(0)
        circuit.answered(sent_s)
        circuit.reject(1)
        assert circuit.is_open
        circuit.answered(sent_s)
        assert circuit.is_open
        circuit.answered(elapsed_s())
        assert not circuit.is_open

    run(main)


def test_one_process_claims_each_probe() -> None:
    async def main() -> None:
        shelf = Shelf()
        one, two = Circuit(shelf), Circuit(shelf)
        one.reject(0, 1)
        await one.settle()
        assert not await two.probes(), "it read the entry first"
        for _ in range(3):
            assert (await one.probes(), await two.probes()) == (False, False)
            await asyncio.sleep(PROBE_INTERVAL_S + 0.1)
            assert sorted([await one.probes(), await two.probes()]) == [False, True]

    run(main)


def test_an_unused_right_to_probe_lapses() -> None:
    async def main() -> None:
        circuit, passage = Circuit(Shelf()), Passage()
        circuit.reject(0, 1)
        await circuit.settle()
        await asyncio.sleep(PROBE_INTERVAL_S + 0.1)
        assert await circuit.pass_with_permit(passage)
        assert not circuit.stops(passage)
        await asyncio.sleep(PROBE_INTERVAL_S)
        assert circuit.stops(passage)

    run(main)


def test_a_made_up_key_takes_no_probe_from_others() -> None:
    """A request that brings its own key probes an interval later, and so only where no other request waits."""

    async def main() -> None:
        circuit, began_s = Circuit(Shelf()), elapsed_s()
        circuit.reject(0, 1)
        await circuit.settle()
        waits_s: dict[bool, float] = {}

        async def wait(guest: bool) -> None:
            await circuit.enter(Passage(guest=guest), began_s + 60.0)
            waits_s[guest] = elapsed_s() - began_s

        await asyncio.gather(wait(True), wait(False))
        assert waits_s[False] == pytest.approx(PROBE_INTERVAL_S, abs=0.1)
        assert waits_s[True] == pytest.approx(2 * PROBE_INTERVAL_S, abs=0.1)

    run(main)


def test_a_success_reopens_every_process() -> None:
    async def main() -> None:
        shelf = Shelf()
        one, two = Circuit(shelf), Circuit(shelf)
        one.reject(0, 1)
        two.reject(0, 1)
        await asyncio.gather(one.settle(), two.settle())
        one.answered(elapsed_s())
        await one.settle()
        assert KEY not in shelf.entries
        began_s = elapsed_s()
        await two.enter(Passage(), began_s + 10.0)
        assert not two.is_open
        assert elapsed_s() - began_s <= 1.0

    run(main)


def test_a_known_state_is_not_read_again() -> None:
    async def main() -> None:
        circuit = Circuit(Shelf())
        reads = 0
        read = circuit._store.read

        async def counted(key: str) -> object:
            nonlocal reads
            reads += 1
            return await read(key)

        circuit._store.read = counted  # type: ignore[method-assign, assignment]
        for _ in range(100):
            assert await circuit.pass_with_permit(Passage())
            await asyncio.sleep(LOOK_S / 50)
        assert reads == 2
        for _ in range(100):
            circuit.answered(elapsed_s())
            assert await circuit.pass_with_permit(Passage())
            await asyncio.sleep(LOOK_S / 50)
        assert reads == 2

    run(main)


def test_callers_own_keys_are_no_evidence() -> None:
    async def main() -> None:
        circuit = Circuit(Shelf())
        own = circuit.servers[0].__class__("own", "u-1", Secret("k"), 1, circuit.servers[0].limits, caller_key=True)
        reported: list[int] = []
        circuit.reject(0)
        circuit.rejected(own, lambda: reported.append(1))
        assert (reported, circuit.is_open) == ([1], False)

    run(main)
