"""Keys of one Google project are found by the markers that they see; what proves nothing stays unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from shared.accounts.account import Account
from shared.accounts.same_project import MARKER, MAX_LISTED, find_same_projects, grouped
from shared.admission.merge_ledgers import merge_accounts
from shared.emulator import EmulatorConfig, running
from shared.gemini.errors import UpstreamFailure
from shared.gemini.files_api import FilesApi
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf


def key(name: str) -> Account:
    return Account(name, f"k-{name}", Secret(name), 5, Limits())


class Rejected(Exception):
    """By the fake."""


class FakeFiles:
    """Files by project. `broken`: keys that Google rejects, for a method or for all (""); `clutter`: other files."""

    failed: type[Exception] = Rejected

    def __init__(self, projects: Mapping[str, str], broken: Mapping[str, str] | None = None, clutter: int = 0) -> None:
        self.projects, self.broken = projects, broken or {}
        self.stored: dict[str, list[str]] = {p: [f"files/own-{n}" for n in range(clutter)] for p in projects.values()}
        self.most_at_once = self.at_once = 0

    def _of(self, key: Secret, method: str) -> list[str]:
        name = key.reveal()
        if self.broken.get(name, "no") in ("", method):
            raise Rejected("status 403")
        return self.stored[self.projects[name]]

    async def upload(self, key: Secret, name: str) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self._of(key, "upload").append(name)

    async def names(self, key: Secret) -> AsyncIterator[str]:
        for name in self._of(key, "names"):
            yield name

    async def delete(self, key: Secret, name: str) -> None:
        files = self._of(key, "delete")
        if name not in files:
            raise Rejected("status 403")
        files.remove(name)

    def markers(self) -> list[str]:
        return [name for names in self.stored.values() for name in names if name.startswith(MARKER)]


PROJECTS = {"a": "one", "b": "two", "c": "one", "d": "three", "e": "four"}


async def test_pair_is_found_and_the_others_stay_unknown():
    files = FakeFiles(PROJECTS)
    found = await find_same_projects(files, [key(name) for name in PROJECTS])
    assert found.groups == (("a", "c"),)
    assert found.unknown == {"b": "", "d": "", "e": ""}
    assert files.markers() == []


async def test_one_new_account_is_compared_with_all_others():
    files = FakeFiles(PROJECTS)
    found = await find_same_projects(files, [key("c")], [key(name) for name in "abde"])
    assert (found.groups, found.unknown) == ((("a", "c"),), {})


@pytest.mark.parametrize("method", ["upload", "names", ""])
async def test_rejection_proves_nothing(method: str):
    """Where one of two fails to upload, the other's marker still shows the pair."""
    files = FakeFiles(PROJECTS, {"a": method})
    found = await find_same_projects(files, [key(name) for name in "abc"])
    assert found.groups == (() if not method else (("a", "c"),))
    assert found.unknown == ({"a": "status 403", "b": "", "c": ""} if not method else {"b": ""})


async def test_markers_that_cannot_be_deleted_do_not_matter():
    files = FakeFiles(PROJECTS, {"a": "delete"})
    assert (await find_same_projects(files, [key("a"), key("c")])).groups == (("a", "c"),)
    assert len(files.markers()) == 1


async def test_markers_are_deleted_when_the_test_is_stopped():
    class Stuck(FakeFiles):
        async def names(self, key: Secret) -> AsyncIterator[str]:
            await asyncio.Event().wait()
            yield ""

    files = Stuck(PROJECTS)
    task = asyncio.create_task(find_same_projects(files, [key("a")]))
    while not files.markers():  # noqa: ASYNC110 - the fake has no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files.markers() == []


async def test_long_lists_are_not_read_to_the_end():
    files = FakeFiles(PROJECTS, clutter=MAX_LISTED)
    assert (await find_same_projects(files, [key("a"), key("c")])).groups == ()


async def test_few_calls_are_under_way_at_once():
    projects = {f"k{n}": str(n) for n in range(40)}
    files = FakeFiles(projects)
    await find_same_projects(files, [key(name) for name in projects])
    assert 1 < files.most_at_once <= 8


async def test_accounts_without_files_are_unknown():
    vertex = replace(key("a"), kind="vertex")
    found = await find_same_projects(FakeFiles(PROJECTS), [vertex, key("c")])
    assert found.groups == ()
    assert set(found.unknown) == {"a", "c"} and found.unknown["a"]


def test_groups_of_pairs():
    assert grouped([("a", "b"), ("c", "c"), ("d", "e"), ("b", "f")]) == (("a", "b", "f"), ("d", "e"))


def no_proxy(url: str) -> None:
    return None


async def test_pair_is_found_at_the_offline_gemini_and_merged():
    """The whole way: uploads, lists and deletions over HTTP, then one ledger for both keys."""
    accounts = [replace(key(name), id=f"account-{name}") for name in PROJECTS]
    async with running(EmulatorConfig(keys=PROJECTS)) as emulator, FilesApi(emulator.url, no_proxy) as files:
        found = await find_same_projects(files, accounts)
        assert [name async for name in files.names(Secret("a"))] == []
        with pytest.raises(UpstreamFailure, match="HTTP 403"):
            await files.delete(Secret("a"), "files/not-there")
    assert found.groups == (("account-a", "account-c"),)
    shelf = Shelf()
    merged = await merge_accounts(MemoryStore(shelf), accounts, found.groups, 60_000)
    assert merged == dict.fromkeys(("account-a", "account-c"), "k-a")
    assert unpack(shelf.entries["ledger/k-c"].put.value).moved == "k-a"


async def test_unreachable_files_api_names_no_key():
    async with FilesApi("http://127.0.0.1:1", no_proxy) as files:
        with pytest.raises(UpstreamFailure) as caught:
            await files.upload(Secret("planted"), "files/x")
    assert "planted" not in str(caught.value)
