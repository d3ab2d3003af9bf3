"""Which project serves a request with stored files, and where the files are uploaded. On a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from shared.accounts.account import Account
from shared.admission.merge_ledgers import merge_ledgers
from shared.clock import elapsed_s
from shared.errors import (
    BadRequest,
    DailyQuotaExhausted,
    InvalidGeminiKey,
    NoServerKey,
    QueueTimeout,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.gateway.file_placement import MAX_PROJECTS
from shared.gemini.errors import UpstreamFailure, read_failure
from shared.gemini.tokens import UNKNOWN_FILE_TOKENS, estimate_input_tokens
from shared.generation import Caller, FileSource, FileUri, Generation, JsonObject
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.support.scripted_files import source_of
from tests.unit.gateway.test_placement import ERRORS, MODEL, ONE, Setting, account, failure, on_a_clock, signed

IN_ORDER = patch("shared.gateway.file_placement._mixed", lambda key, project: project.encode())
"""Of equal projects, the first one by name is chosen."""
A, B, C, D = (account(name, f"p{name}") for name in "abcd")
V = account("v", "w", "vertex")


@pytest.fixture(autouse=True)
def _in_order() -> Any:
    with IN_ORDER:
        yield


def part(source: FileSource | None = None) -> JsonObject:
    source = source or source_of()
    return {"fileData": {"mimeType": source.mime_type, "fileUri": FileUri(source)}}


def uris(body: JsonObject) -> list[str]:
    parts = [one for content in body["contents"] for one in content["parts"]]
    return [one["fileData"]["fileUri"].rpartition("/")[2] for one in parts if "fileData" in one]


def test_a_file_is_uploaded_once_and_named_by_its_uri() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        for _ in range(3):
            assert (await setting.ask(part())).account_id == "a"
        assert setting.files.uploaded == [("a", "file-1")]
        assert [uris(body) for _, body in setting.gemini.asked] == [["1"]] * 3


def test_the_project_with_the_most_bytes_is_chosen() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        small, large = source_of("small", 100), source_of("large", 1000)
        await setting.ask(part(small))
        setting.pool.disable(A, "account", "Suspended.")
        await setting.ask(part(large))
        setting.pool.replace((A, B), caller_limits=Limits(), caller_concurrency=4, revisions={"a": 1})
        reply = await setting.ask(part(small), part(large))
        assert (reply.account_id, setting.files.uploaded[-1]) == ("b", ("b", "small"))
        assert len(setting.files.uploaded) == 3


def test_a_less_busy_project_gets_a_new_file() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        setting.gemini.took_s = 20.0
        first = asyncio.create_task(setting.ask(part(source_of("x"))))
        await asyncio.sleep(5)
        await setting.ask(part(source_of("y")))
        await first
        assert setting.files.uploaded == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize("error", ["day", "key"])
def test_a_request_moves_with_its_files(error: str) -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.ask(part())
        setting.gemini.fails["a"] = failure(error)
        assert (await setting.ask(part())).account_id == "b"
        assert (await setting.ask(part())).account_id == "b"
        assert setting.files.uploaded == [("a", "file-1"), ("b", "file-1")]
        assert [(key, *uris(body)) for key, body in setting.gemini.asked] == [
            ("a", "1"),
            ("a", "1"),
            ("b", "2"),
            ("b", "2"),
        ]


def test_a_project_known_to_be_spent_gets_no_upload() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        setting.gemini.fails["a"] = failure("day")
        await setting.ask(part(source_of("x")))
        await setting.ask(part(source_of("y")))
        assert setting.files.uploaded == [("a", "x"), ("b", "x"), ("b", "y")]


def test_files_are_uploaded_to_a_few_projects_only() -> None:
    @on_a_clock(A, B, C, D)
    async def _(setting: Setting) -> None:
        for name in "abcd":
            setting.gemini.fails[name] = failure("day")
        assert isinstance(await setting.refused(part()), DailyQuotaExhausted)
        assert [key for key, _ in setting.files.uploaded] == ["a", "b", "c"]
        assert MAX_PROJECTS == 3


def test_a_queue_that_is_too_long_moves_the_file() -> None:
    """One file would otherwise bind all its requests to one project while another one is idle."""

    @on_a_clock(account("a", "pa", concurrency=1), B)
    async def _(setting: Setting) -> None:
        setting.gemini.took_s = 0.1
        await setting.ask(part())
        setting.gemini.took_s = 60.0
        busy = asyncio.create_task(setting.ask(part()))
        await asyncio.sleep(1)
        assert (await setting.ask(part())).account_id == "b"
        await busy


def test_when_all_queues_are_too_long_no_more_is_uploaded() -> None:
    """More copies would not help."""

    @on_a_clock(account("a", "pa", concurrency=1), account("b", "pb", concurrency=1))
    async def _(setting: Setting) -> None:
        setting.gemini.took_s = 60.0
        busy = [asyncio.create_task(setting.ask()) for _ in range(2)]
        await asyncio.sleep(5)
        refused = asyncio.create_task(setting.refused(part()))
        await asyncio.sleep(15)
        waits = asyncio.create_task(setting.refused())
        assert isinstance(await refused, QueueTimeout)
        assert len(setting.files.uploaded) == 1
        await asyncio.gather(waits, *busy)


def test_with_one_project_a_queue_that_is_too_long_is_an_error() -> None:
    @on_a_clock(account("a", "pa", concurrency=1))
    async def _(setting: Setting) -> None:
        setting.gemini.took_s = 60.0
        busy = asyncio.create_task(setting.ask(part()))
        await asyncio.sleep(5)
        assert isinstance(await setting.refused(part()), QueueTimeout)
        await busy


def test_a_forgotten_copy_is_uploaded_once_more() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.ask(part())
        message = "You do not have permission to access the File 1 or it may not exist."
        error = orjson.dumps({"error": {"code": 403, "message": message}})
        setting.gemini.fails["a"] = read_failure(403, error, {})
        asked = asyncio.create_task(setting.ask(part()))
        await asyncio.sleep(1.5)
        setting.gemini.fails.clear()
        assert (await asked).account_id == "a"
        assert setting.files.uploaded == [("a", "file-1")] * 2
        assert uris(setting.gemini.asked[-1][1]) == ["2"]


def test_a_copy_that_is_always_forgotten_is_an_error() -> None:
    @on_a_clock(A)
    async def _(setting: Setting) -> None:
        setting.gemini.fails["a"] = read_failure(
            403,
            orjson.dumps({"error": {"code": 403, "message": ERRORS["file"][1]}}),
            {},
        )
        await setting.refused(part())
        assert len(setting.files.uploaded) == 2


@pytest.mark.parametrize(
    ("kind", "status", "error", "projects"),
    [
        ("key_invalid", 400, NoServerKey, "ab"),
        ("restricted", 403, NoServerKey, "ab"),
        ("permission", 403, UpstreamFailed, "ab"),
        ("quota", 429, RateLimited, "ab"),
        ("server", 500, UpstreamFailed, "a"),
    ],
)
def test_an_upload_that_fails_tries_other_projects(
    kind: Any, status: int, error: type[Exception], projects: str
) -> None:
    """A failure that another project cannot mend is the caller's error at once."""

    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        tried: list[str] = []
        upload = setting.files.upload

        async def noted(key: Secret, *rest: Any) -> Any:
            tried.append(key.reveal())
            return await upload(key, *rest)

        setting.files.upload = noted  # type: ignore[method-assign]
        for name in "ab":
            setting.files.fails[name] = UpstreamFailure(kind, "Google said no.", status=status, written=False)
        refused = await setting.refused(part())
        assert (type(refused), "".join(tried)) == (error, projects)
        assert "Google said no." in refused.message
        assert setting.gemini.asked == []


def test_a_copy_serves_all_keys_of_a_merged_project() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        setting.pool.pause(A, "restricted", "Wait.")
        await setting.ask(part())
        setting.pool.replace((A, B), caller_limits=Limits(), caller_concurrency=4, revisions={"a": 1})
        await merge_ledgers(setting.store, "pa", "pb", 60_000)
        served = {(await setting.ask(part())).account_id for _ in range(6)}
        assert setting.gateway.places.current("pb") == "pa"
        assert (served, setting.files.uploaded) == ({"a", "b"}, [("b", "file-1")])


def test_another_key_of_the_project_uploads() -> None:
    @on_a_clock(A, account("a2", "pa"))
    async def _(setting: Setting) -> None:
        setting.files.fails["a"] = UpstreamFailure("key_invalid", "No.", status=400, written=False)
        await setting.ask(part())
        assert setting.files.uploaded == [("a2", "file-1")]


def test_a_deadline_ends_the_upload() -> None:
    @on_a_clock(A)
    async def _(setting: Setting) -> None:
        setting.files.took_s = 300.0
        assert isinstance(await setting.refused(part()), UpstreamTimeout)
        await asyncio.sleep(1)
        assert (setting.files.running, setting.files.uploaded) == (0, [])


def test_accounts_without_files_are_not_asked() -> None:
    @on_a_clock(V, A)
    async def _(setting: Setting) -> None:
        for _ in range(4):
            assert (await setting.ask(part())).account_id == "a"
        setting.pool.disable(A, "account", "Suspended.")
        assert isinstance(await setting.refused(part()), BadRequest)


def test_a_file_goes_with_placeholders_for_foreign_signatures() -> None:
    """The file decides for an account of the Gemini API, although Vertex AI made the signature."""

    @on_a_clock(V, A)
    async def _(setting: Setting) -> None:
        generation = setting.generation()
        while not setting.vertex.asked:
            await setting.gateway.generate(generation)
        reply = await setting.ask(part(), contents=[signed("vertex-1")])
        assert (reply.account_id, reply.signatures_replaced) == ("a", True)
        assert uris(setting.gemini.asked[-1][1]) == ["1"]


def test_a_file_goes_to_the_project_of_a_named_thing() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/b", ONE, B)
        named = {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/b"}}
        assert (await setting.ask(named, part())).account_id == "b"
        setting.gemini.fails["b"] = failure("day")
        assert isinstance(await setting.refused(named, part()), DailyQuotaExhausted)
        assert setting.files.uploaded == [("b", "file-1")]


def test_a_callers_own_key_has_one_project() -> None:
    @on_a_clock(A)
    async def _(setting: Setting) -> None:
        own = Caller("key:x", "caller_key", Secret("the-callers-key"))
        await setting.ask(part(), caller=own)
        await setting.ask(part(), caller=own)
        assert setting.files.uploaded == [("the-callers-key", "file-1")]
        setting.gemini.fails["the-callers-key"] = failure("key")
        assert isinstance(await setting.refused(part(), caller=own), InvalidGeminiKey)


def test_a_text_like_a_stored_file_s_uri_is_no_file() -> None:
    """Only the gateway's own type names one; a caller's JSON cannot have it."""

    @on_a_clock(A)
    async def _(setting: Setting) -> None:
        await setting.ask({"fileData": {"fileUri": "stored:file-1", "mimeType": "text/plain"}})
        assert setting.files.uploaded == []
        assert setting.gemini.asked[0][1]["contents"][0]["parts"][1]["fileData"]["fileUri"] == "stored:file-1"


def test_a_deleted_file_s_copies_are_deleted_where_they_are() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.ask(part())
        setting.gemini.fails["a"] = failure("day")
        await setting.ask(part())
        setting.files.fails["a"] = UpstreamFailure("server", "Internal error.", status=500)
        await setting.gateway.delete_copies(ONE, source_of().key)
        assert list(setting.files.kept.values()) == ["a"]
        await setting.gateway.delete_copies(ONE, source_of().key)
        setting.files.fails.clear()
        await setting.ask(part())
        assert len(setting.files.uploaded) == 3


def test_the_reservation_counts_a_file_by_its_size() -> None:
    """Without its size, a file counts as five minutes of video, or as 50,000 tokens of text."""

    def tokens(mime_type: str, size_bytes: int) -> int:
        return estimate_input_tokens({"contents": [{"parts": [part(source_of("x", size_bytes, mime_type))]}]})

    assert tokens("text/plain", 6_000_000) == pytest.approx(4_000_000, rel=0.01)
    assert tokens("text/plain", 6_000_000) > UNKNOWN_FILE_TOKENS
    # 100 MB at 200 kbit/s are 4,000 s of 280 + 32 tokens.
    assert tokens("video/mp4", 100_000_000) == pytest.approx(1_248_000, rel=0.01)
    assert tokens("audio/mp3", 30_000_000) == pytest.approx(320_000, rel=0.01)


def test_a_large_file_is_counted_by_gemini_in_its_project() -> None:
    """The estimate would exceed the limit."""

    @on_a_clock(Account("a", "pa", Secret("a"), 4, Limits(input_tokens=1_000_000)))
    async def _(setting: Setting) -> None:
        answer = setting.gemini.generate

        async def counted(exchange: Any) -> JsonObject:
            if exchange.verb != "countTokens":
                return await answer(exchange)
            assert uris(exchange.message["generateContentRequest"]) == ["1"]
            return {"totalTokens": 300_000}

        setting.gemini.generate = counted  # type: ignore[method-assign]
        body = {"contents": [{"role": "user", "parts": [part(source_of("v", 100_000_000, "video/mp4"))]}]}
        with patch("shared.gateway.file_copies.PIECE_BYTES", 1000):
            reply = await setting.gateway.generate(Generation(MODEL, body, ONE, elapsed_s() + 100))
        assert reply.account_id == "a"
