"""The thought signatures of tool calls: one commit for an answer, one read for a conversation, each caller's own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from shared.generation import Caller
from shared.openai_api.signatures import (
    MAX_READ,
    MAX_REMEMBERED_CHARS,
    MAX_SIGNATURE_CHARS,
    MAX_WRITTEN,
    CallSignatures,
    read_ids,
)
from shared.openai_format.call_ids import RANDOM_BYTES, new_call_id
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import CommitUnknown, Outcome, StoreError, StoreUnavailable

CALLER, OTHER = Caller("name:one", "admin"), Caller("name:two", "admin")
HOUR_MS = 3_600_000
SHORT = "YS1zaWduYXR1cmU="
LONG = b64encode(Random(1).randbytes(1500)).decode()


class Recording(MemoryStore):
    """Records the number of keys and of writes of each transaction; raises `failure` instead, if that is set."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.calls: list[tuple[int, int]] = []
        self.failure: StoreError | None = None

    async def transact(self, keys: Sequence[str], step: Any, **rest: Any) -> Outcome[Any]:
        if self.failure is not None:
            raise self.failure
        outcome = await super().transact(keys, step, **rest)
        self.calls.append((len(keys), outcome.writes))
        return outcome


class Instance:
    """One process of several with the same store."""

    def __init__(self, shelf: Shelf) -> None:
        self.store = Recording(shelf)
        self.signatures = CallSignatures()

    async def find(self, *call_ids: str, caller: Caller = CALLER) -> dict[str, str]:
        return await self.signatures.find(self.store, read_ids(caller, call_ids))

    async def record(self, signatures: dict[str, str]) -> None:
        await self.signatures.record(self.store, CALLER, signatures, HOUR_MS)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def first(shelf: Shelf) -> Instance:
    return Instance(shelf)


@pytest.fixture
def second(shelf: Shelf) -> Instance:
    return Instance(shelf)


def signed(number: int, signature: str = LONG) -> str:
    """The id of a signed call."""
    return new_call_id(signature, f"{number:0{2 * RANDOM_BYTES}x}")


async def test_another_instance_reads_an_answer_at_once(first: Instance, second: Instance) -> None:
    """One commit for the answer, one read for the conversation, and none for what this process has read."""
    one, two = signed(1), signed(2)
    await first.record({one: LONG, two: SHORT})
    assert first.store.calls == [(2, 1)]
    assert await second.find(one, two) == {one: LONG, two: SHORT}
    assert second.store.calls == [(2, 0)]
    assert await second.find(two, one) == {one: LONG, two: SHORT}
    assert len(second.store.calls) == 1


async def test_what_this_process_wrote_is_not_read(first: Instance) -> None:
    await first.record({signed(1): LONG})
    assert await first.find(signed(1)) == {signed(1): LONG}
    assert len(first.store.calls) == 1


@pytest.mark.parametrize("kept", [64, 40, 29])
async def test_a_cut_id_finds_its_signature(first: Instance, second: Instance, kept: int) -> None:
    call_id = signed(1, SHORT)
    await first.record({call_id: SHORT})
    assert await second.find(call_id[:kept]) == {call_id[:kept]: SHORT}
    assert await second.find(call_id[:kept], call_id) == {call_id[:kept]: SHORT, call_id: SHORT}


async def test_a_whole_id_is_not_looked_up(first: Instance) -> None:
    call_id = signed(1, SHORT)
    assert await first.find(call_id) == {call_id: SHORT}
    assert first.store.calls == []


async def test_calls_without_signatures_cost_nothing(first: Instance) -> None:
    """Parallel calls after the first, and calls that another program named."""
    ids = [new_call_id(None, "0" * 24), "call_65OReGAIB0M4612fiyF6YMbI", ""]
    assert await first.find(*ids) == {}
    await first.record({})
    await first.record(dict.fromkeys(ids, LONG))
    assert first.store.calls == []


async def test_another_callers_call_is_an_unknown_one(first: Instance, second: Instance) -> None:
    call_id = signed(1)
    await first.record({call_id: LONG})
    assert await first.find(call_id, caller=OTHER) == {}
    assert await second.find(call_id, caller=OTHER) == {}
    assert await second.find(signed(2), caller=OTHER) == {}
    assert second.store.calls == [(1, 0), (1, 0)]


async def test_an_entry_is_the_signature_alone(shelf: Shelf, first: Instance) -> None:
    """The key names neither the call nor the caller, and the entry expires with the conversation."""
    await first.record({signed(1): LONG})
    ((key, entry),) = shelf.entries.items()
    assert entry.put.value == LONG.encode()
    assert entry.put.expires_at_ms == pytest.approx(shelf.sample().server_ms + HOUR_MS, abs=60_000)
    assert signed(1) not in key
    assert CALLER.id not in key


@pytest.mark.parametrize("failure", [StoreUnavailable("down"), CommitUnknown("lost")])
async def test_a_failing_store_loses_no_answer(
    first: Instance, failure: StoreError, caplog: pytest.LogCaptureFixture
) -> None:
    """What this process and the ids know is found; the log has neither a signature nor an id."""
    first.store.failure = failure
    await first.record({signed(1): LONG})
    found = await first.find(signed(1), signed(2, SHORT), signed(3))
    assert found == {signed(1): LONG, signed(2, SHORT): SHORT}
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert LONG not in caplog.text
    assert "call_" not in caplog.text


async def test_writes_and_reads_are_bounded(first: Instance, second: Instance) -> None:
    await first.record({signed(number): LONG for number in range(MAX_WRITTEN + 1)})
    await first.record({signed(1000): "A" * (MAX_SIGNATURE_CHARS + 4)})
    assert first.store.calls == [(MAX_WRITTEN, 1)]
    await second.find(*(signed(number) for number in range(MAX_READ + 50)))
    assert sum(keys for keys, _ in second.store.calls) == MAX_READ
    assert await second.find(signed(MAX_WRITTEN), signed(1000)) == {}


async def test_the_newest_calls_are_read(first: Instance, second: Instance) -> None:
    await first.record({signed(0): LONG, signed(MAX_READ): LONG})
    assert await second.find(*(signed(number) for number in range(MAX_READ + 1))) == {signed(MAX_READ): LONG}


async def test_the_memory_of_a_process_is_bounded(first: Instance) -> None:
    """The signatures that were used last are kept."""
    large = "A" * MAX_SIGNATURE_CHARS
    fit = MAX_REMEMBERED_CHARS // MAX_SIGNATURE_CHARS
    for number in range(fit):
        await first.record({signed(number): large})
    await first.find(signed(0))
    await first.record({signed(fit): large})
    await first.record({signed(fit): large})
    first.store.calls.clear()
    assert await first.find(signed(0), signed(2), signed(fit)) == dict.fromkeys(
        (signed(0), signed(2), signed(fit)), large
    )
    assert first.store.calls == []
    assert await first.find(signed(1)) == {signed(1): large}
    assert first.store.calls == [(1, 0)]
