"""Changes to the stored accounts, on a book in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from shared.accounts import manage
from shared.accounts.manage import NewAccount
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys, NoDataKey
from shared.errors import BadRequest, NotFound
from shared.secret import Secret
from tests.support.data_keys import data_keys

KEYS = data_keys()
OUT = OutReason("key_invalid", "API key not valid.", 5)
Records = tuple[AccountRecord, ...]


class MemoryBook:
    """Runs each change twice, as a store does after a conflict."""

    def __init__(self) -> None:
        self.records: Records = ()

    async def accounts(self) -> Records:
        return self.records

    async def change_accounts(
        self, changer: Callable[[Records], Records], expected_version: int | None = None
    ) -> Records:
        changer(self.records)
        self.records = changer(self.records)
        return self.records


def key(number: int) -> NewAccount:
    return NewAccount("api_key", Secret(f"AQ.a-key-of-a-test-{number:04}"), label=f"number {number}")


async def book_of(count: int, keys: DataKeys = KEYS) -> MemoryBook:
    book = MemoryBook()
    await manage.add(book, keys, [key(number) for number in range(count)], now_ms=7)
    return book


async def test_added_account_keeps_its_secret_sealed() -> None:
    book = await book_of(1)
    (record,) = book.records
    assert manage.secret_of(KEYS, record) == key(0).secret
    assert (record.label, record.last4, record.added_ms, record.state) == ("number 0", "0000", 7, "ENABLED")
    assert key(0).secret.reveal() not in repr(record) + record.sealed


async def test_duplicates_are_told_by_position() -> None:
    book = await book_of(2)
    given = [key(5), key(1), key(5), key(6)]
    added = await manage.add(book, KEYS, given, 8, environment=[key(6).secret])
    assert (added.duplicates, [record.label for record in added.records]) == ((1, 2, 3), ["number 5"])
    assert len(book.records) == 3


async def test_one_invalid_account_stores_none() -> None:
    book = await book_of(1)
    with pytest.raises(BadRequest, match="secret"):
        await manage.add(book, KEYS, [key(3), NewAccount("api_key", Secret("with space planted"))], 8)
    assert len(book.records) == 1


async def test_nothing_is_stored_without_a_data_key() -> None:
    book = MemoryBook()
    with pytest.raises(NoDataKey):
        await manage.add(book, DataKeys([]), [key(1)], 8)
    assert book.records == ()


async def test_vertex_account_takes_its_project_from_the_file() -> None:
    file = {"type": "service_account", "project_id": "my-project", "client_email": "a@b", "private_key": "planted"}
    secret = Secret(orjson.dumps({**file, "token_uri": "https://x", "private_key_id": "0123456789abcdef0123"}).decode())
    book = MemoryBook()
    added = await manage.add(book, KEYS, [NewAccount("vertex", secret)], 8)
    (record,) = added.records
    assert (dict(record.place), record.last4) == ({"project": "my-project", "location": "global"}, "0123")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("api_key", "short"),
        ("api_key", "x" * 5000),
        ("vertex", "AQ.planted"),
        ("vertex", "[]"),
        ("vertex", '{"type": "service_account", "client_email": "planted"}'),
        ("vertex", '{"type": "authorized_user"}'),
        ("enterprise_session", '{"secure_c_ses": "planted-planted"}'),
        ("enterprise_session", '{"secure_c_ses": "a\\nb-planted", "host_c_oses": "planted-planted"}'),
    ],
)
async def test_error_of_a_wrong_secret_does_not_repeat_it(kind: manage.Kind, text: str) -> None:
    with pytest.raises(BadRequest) as found:
        await manage.add(MemoryBook(), KEYS, [NewAccount(kind, Secret(text))], 8)
    assert "planted" not in found.value.message
    assert found.value.details == {"field": "secret"}


async def test_disabled_account_is_enabled_again_without_its_rejection() -> None:
    book = await book_of(2)
    first = book.records[0].id
    await manage.disable(book, [first])
    await manage.report_out(book, first, 0, OUT)
    assert (book.records[0].state, book.records[1].state) == ("DISABLED", "ENABLED")
    (enabled,) = await manage.enable(book, [first])
    assert (enabled.state, enabled.out, enabled.revision) == ("ENABLED", None, 1)


async def test_rejection_of_an_earlier_revision_is_void() -> None:
    """A request that was under way while the operator replaced the secret fails afterwards."""
    book = await book_of(1)
    (record,) = book.records
    await manage.replace_secret(book, KEYS, record.id, key(9).secret)
    await manage.report_out(book, record.id, record.revision, OUT)
    assert book.records[0].out is None
    assert manage.secret_of(KEYS, book.records[0]) == key(9).secret


async def test_first_reason_stays() -> None:
    book = await book_of(1)
    (record,) = book.records
    await manage.report_out(book, record.id, 0, OUT)
    await manage.report_out(book, record.id, 0, replace(OUT, kind="account", since_ms=9))
    assert book.records[0].out == OUT


async def test_removed_accounts_are_gone_with_their_secrets() -> None:
    book = await book_of(3)
    first, second, third = book.records
    assert await manage.remove(book, [third.id, first.id]) == (third, first)
    assert book.records == (second,)


async def test_unknown_id_changes_nothing() -> None:
    book = await book_of(1)
    before = book.records
    for change in (manage.enable, manage.disable, manage.remove):
        with pytest.raises(NotFound, match="a-none"):
            await change(book, [before[0].id, "a-none"])
    assert book.records == before


async def test_name_and_project_change() -> None:
    book = await book_of(1)
    (record,) = book.records
    await manage.rename(book, record.id, "Team <b>")
    await manage.assign_project(book, [record.id], "my-project")
    assert (book.records[0].label, book.records[0].ledger_id) == ("Team <b>", "my-project")


class TestReseal:
    async def test_every_secret_of_an_earlier_key_is_sealed_anew(self) -> None:
        book = await book_of(3, data_keys("a"))
        assert await manage.reseal(book, data_keys("b", "a")) == (3, ())
        assert [manage.readable(data_keys("b"), record) for record in book.records] == [key(n).secret for n in range(3)]
        assert await manage.reseal(book, data_keys("b")) == (0, ())

    async def test_what_no_key_opens_stays_and_is_named(self) -> None:
        book = await book_of(1, data_keys("lost"[0]))
        before = book.records
        assert await manage.reseal(book, data_keys("b")) == (0, (before[0].id,))
        assert book.records == before

    async def test_needs_a_key(self) -> None:
        with pytest.raises(NoDataKey):
            await manage.reseal(MemoryBook(), DataKeys([]))
