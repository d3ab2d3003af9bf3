"""Files: stored, listed page by page, read, used and deleted."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.openai_sdk.conftest import Client, every


@pytest.fixture
def own(client: Client) -> Client:
    """A test sees only its own files."""
    return client.with_fresh_key


async def listed(client: Client, **parameters: Any) -> list[Any]:
    return await every(client.sdk.files.list(**parameters))


async def test_file_from_its_upload_to_its_end(own: Client) -> None:
    stored = await own("files.create", file=("notes.txt", b"A lighthouse."), purpose="user_data")
    assert (stored.filename, stored.bytes, stored.purpose, stored.status) == (
        "notes.txt",
        13,
        "user_data",
        "processed",
    )
    assert await own("files.retrieve", stored.id) == stored
    assert [file.id for file in await listed(own)] == [stored.id]
    content = await own("files.content", stored.id)
    assert content.read() == b"A lighthouse."
    deleted = await own("files.delete", stored.id)
    assert (deleted.id, deleted.deleted) == (stored.id, True)
    with pytest.raises(openai.NotFoundError):
        await own("files.retrieve", stored.id)
    assert await listed(own) == []


async def test_list_is_read_page_by_page(own: Client) -> None:
    ids = [(await own("files.create", file=(f"{n}.txt", b"x"), purpose="user_data")).id for n in range(5)]
    assert [file.id for file in await listed(own, limit=2, order="asc")] == ids
    assert {file.id for file in await listed(own, purpose="user_data")} == set(ids)
    assert await listed(own, purpose="vision") == []


async def test_file_expires_when_its_owner_says(own: Client) -> None:
    expiry: Any = {"anchor": "created_at", "seconds": 3_600}
    stored = await own("files.create", file=("a.txt", b"x"), purpose="batch", expires_after=expiry)
    assert stored.expires_at == stored.created_at + 3_600


async def test_file_of_another_key_is_not_found(own: Client) -> None:
    stored = await own("files.create", file=("a.txt", b"x"), purpose="user_data")
    other = own.with_fresh_key
    for method in ("files.retrieve", "files.content", "files.delete"):
        with pytest.raises(openai.NotFoundError):
            await other(method, stored.id)
    assert (await own("files.retrieve", stored.id)).id == stored.id
