"""Gemini's copies of stored files: one upload for all who need it, reuse, expiry. On a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from shared.accounts.account import Account
from shared.bounds.byte_budget import ByteBudget
from shared.clock import elapsed_s
from shared.errors import NotFound, QueueFull, RejectedByGemini, UpstreamTimeout
from shared.gateway.file_copies import (
    LIFETIME_MS,
    MARGIN_MS,
    MAX_COPIES,
    MAX_OF_CALLER,
    MAX_OF_STRANGERS,
    MAX_UPLOADS,
    Copy,
    FileCopies,
    pack,
    unpack,
    usable,
)
from shared.gemini.errors import UpstreamFailure
from shared.generation import Caller, FileSource
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.port import CommitUnknown, StoreUnavailable
from tests.support.faulty_store import FaultyStore
from tests.support.scripted_files import ScriptedFiles, source_of
from tests.support.virtual_time import run

ACCOUNT = Account("a", "p", Secret("key-a"), 1, Limits())
ANNA = Caller("anna", "admin")


class Setting:
    """The copies of one process. `other` makes a second process on the same store."""

    def __init__(self, store: FaultyStore | None = None, gemini: ScriptedFiles | None = None) -> None:
        self.store, self.gemini = store or FaultyStore(), gemini or ScriptedFiles()
        self.budget = ByteBudget(1 << 20)
        self.copies = FileCopies(self.store, self.budget, lambda: cast(Any, self.gemini), longest_s=100.0)

    def other(self) -> Setting:
        return Setting(self.store, self.gemini)

    async def ensure(
        self, source: FileSource | None = None, caller: Caller = ANNA, within_s: float = 50.0, project: str = "p"
    ) -> Copy:
        return await self.copies.ensure(source or source_of(), ACCOUNT, project, caller, elapsed_s() + within_s)


def on_a_clock(test: Callable[[Setting], Awaitable[None]]) -> None:
    """Runs the decorated test at once, and checks that it leaves no bytes, uploads or tasks."""

    async def main() -> None:
        setting = Setting()
        await test(setting)
        await asyncio.sleep(1)
        assert (setting.budget.used_bytes, setting.copies._running, len(asyncio.all_tasks())) == (0, {}, 1)

    run(main)


def test_requests_at_once_share_one_upload() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        found = await asyncio.gather(*(setting.ensure() for _ in range(10)))
        assert len({copy.name for copy in found}) == 1
        assert await setting.ensure() == found[0]
        assert len(setting.gemini.uploaded) == 1


def test_another_process_uses_the_recorded_copy() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        copy = await setting.ensure()
        assert await setting.other().ensure() == copy
        assert len(setting.gemini.uploaded) == 1


def test_two_processes_at_once_upload_at_most_once_each() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        await asyncio.gather(*(one.ensure() for one in (setting, setting.other()) for _ in range(5)))
        assert len(setting.gemini.uploaded) == 2
        found = await setting.copies.find([source_of()])
        assert len(found["owner.file-1"]) == 1


def test_a_copy_in_its_last_hour_is_uploaded_again() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        await setting.ensure()
        await asyncio.sleep((LIFETIME_MS - MARGIN_MS) / 1000 - 60)
        await setting.ensure()
        assert len(setting.gemini.uploaded) == 1
        await asyncio.sleep(60)
        await setting.ensure()
        assert len(setting.gemini.uploaded) == 2


def test_an_upload_goes_on_while_one_request_waits() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        first, second = (asyncio.create_task(setting.ensure()) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        await second
        assert len(setting.gemini.uploaded) == 1


def test_an_upload_that_nobody_waits_for_is_cancelled() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        tasks = [asyncio.create_task(setting.ensure()) for _ in range(2)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0.1)
        assert (setting.gemini.running, setting.gemini.uploaded) == (0, [])


def test_a_request_waits_until_its_deadline_only() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        patient = asyncio.create_task(setting.ensure())
        with pytest.raises(UpstreamTimeout, match="file-1"):
            await setting.ensure(within_s=1.0)
        await patient
        assert len(setting.gemini.uploaded) == 1


def test_a_file_is_used_when_it_is_processed() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.processing = 3
        began_s = elapsed_s()
        assert (await setting.ensure()).active
        assert (setting.gemini.described, elapsed_s() - began_s) == (3, pytest.approx(2 + 0.5 + 1.0))
        await setting.other().ensure()
        assert setting.gemini.described == 3


def test_an_upload_is_not_repeated_while_it_is_processed() -> None:
    """A request that could not wait for it leaves the record of the upload."""

    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.processing = 1000
        with pytest.raises(UpstreamTimeout):
            await setting.ensure(within_s=5.0)
        setting.gemini.processing = 2
        await setting.ensure()
        assert len(setting.gemini.uploaded) == 1


def test_a_file_that_gemini_cannot_process_is_an_error() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.processing, setting.gemini.end_state = 2, "FAILED"
        with pytest.raises(RejectedByGemini, match="file-1"):
            await setting.ensure()
        assert await setting.copies.find([source_of()]) == {"owner.file-1": {}}


def test_a_copy_lost_while_processing_is_uploaded_again() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.processing = 1000
        with pytest.raises(UpstreamTimeout):
            await setting.ensure(within_s=5.0)
        setting.gemini.processing = 0
        setting.gemini.kept.clear()
        await setting.ensure()
        assert len(setting.gemini.uploaded) == 2


def test_look_ups_that_fail_for_a_moment_are_repeated() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.processing = 2
        waiting = asyncio.create_task(setting.ensure())
        await asyncio.sleep(2.1)
        setting.gemini.fails["key-a"] = UpstreamFailure("server", "Internal error.", status=500)
        await asyncio.sleep(1.0)
        setting.gemini.fails.clear()
        assert (await waiting).active


@pytest.mark.parametrize("failure", [StoreUnavailable, CommitUnknown])
def test_an_upload_that_cannot_be_recorded_is_used(failure: Any) -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        waiting = asyncio.create_task(setting.ensure())
        await asyncio.sleep(1)
        setting.store.failure = failure
        assert (await waiting).active


def test_a_failed_upload_is_an_error_for_all_and_leaves_nothing() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.fails["key-a"] = UpstreamFailure("server", "Internal error.", status=500)
        failures = await asyncio.gather(*(setting.ensure() for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [UpstreamFailure] * 3
        setting.gemini.fails.clear()
        await setting.ensure()


def test_a_file_deleted_meanwhile_is_not_found() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        async def gone(start: int, end: int) -> bytes:
            raise NotFound("No file has this id.")

        with pytest.raises(NotFound):
            await setting.ensure(FileSource("owner.x", "x", "text/plain", 9, gone))


def test_uploads_at_once_are_bounded() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        await asyncio.gather(*(setting.ensure(source_of(f"a{n}")) for n in range(6)))
        assert setting.gemini.most == MAX_OF_CALLER
        callers = [Caller(f"name:{n}", "admin") for n in range(6)]
        await asyncio.gather(*(setting.ensure(source_of(f"b{n}"), caller) for n, caller in enumerate(callers)))
        assert setting.gemini.most == MAX_UPLOADS


def test_callers_without_an_admin_key_leave_room() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        strangers = [Caller(f"ip:{n}", "anonymous") for n in range(6)]
        slow = [asyncio.create_task(setting.ensure(source_of(f"s{n}"), one)) for n, one in enumerate(strangers)]
        await asyncio.sleep(1)
        assert setting.gemini.running == MAX_OF_STRANGERS
        began_s = elapsed_s()
        await setting.ensure(source_of("mine"))
        assert elapsed_s() - began_s == pytest.approx(setting.gemini.took_s)
        await asyncio.gather(*slow)


def test_an_upload_s_piece_counts_in_the_byte_budget() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        with pytest.raises(QueueFull):
            await setting.ensure(source_of(size_bytes=2 << 20))
        waiting = asyncio.create_task(setting.ensure())
        await asyncio.sleep(1)
        assert setting.budget.used_bytes == 1000
        await waiting


def test_copies_are_dropped_by_name_and_forgotten_together() -> None:
    """Another process may have recorded a new copy meanwhile."""

    @on_a_clock
    async def _(setting: Setting) -> None:
        p, q = await setting.ensure(), await setting.ensure(project="q")
        await setting.copies.drop("owner.file-1", "files/other")
        assert await setting.copies.find([source_of()]) == {"owner.file-1": {"p": p, "q": q}}
        await setting.copies.drop("owner.file-1", p.name)
        assert await setting.copies.find([source_of()]) == {"owner.file-1": {"q": q}}
        assert await setting.copies.forget("owner.file-1") == {"q": q}
        assert await setting.store.list("bindings/") == []
        assert await setting.copies.forget("owner.file-1") == {}


def test_many_files_are_found_in_batches() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        sources = [source_of(f"f{n}") for n in range(250)]
        copy = await setting.ensure(sources[249])
        found = await setting.copies.find(sources)
        assert [project for project in found.values() if project] == [{"p": copy}]
        assert len(found) == 250


def test_a_file_has_a_bounded_number_of_copies() -> None:
    @on_a_clock
    async def _(setting: Setting) -> None:
        setting.gemini.took_s = 0.1
        for n in range(MAX_COPIES + 2):
            await setting.ensure(project=f"p{n}")
        found = (await setting.copies.find([source_of()]))["owner.file-1"]
        assert (len(found), "p0" in found, f"p{MAX_COPIES + 1}" in found) == (MAX_COPIES, False, True)


def test_the_record_of_copies_is_read_as_written() -> None:
    copies = {"p": Copy("files/a", "https://g/files/a", 5_000_000, False), "q": Copy("files/b", "u", 1)}
    assert unpack(pack(copies)) == copies
    assert unpack(None) == {}
    assert usable(copies, 5_000_000 - MARGIN_MS - 1) == {"p": copies["p"]}
    assert usable(copies, 5_000_000 - MARGIN_MS) == {}
