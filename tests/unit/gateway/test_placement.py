"""Which accounts may serve a request that names stored things or carries thought signatures. On a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.admission.merge_ledgers import merge_ledgers
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.errors import BadRequest, GatewayError, LedgerUnavailable, NoServerKey, NotFound
from shared.gateway.gateway import Gateway
from shared.gemini.errors import UpstreamFailure, read_failure
from shared.gemini.references import PLACEHOLDER
from shared.gemini.upstream import Exchange
from shared.generation import Caller, Generation, JsonObject, Reply, Timeline
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.port import StoreUnavailable
from tests.support.faulty_store import FaultyStore
from tests.support.scripted_files import ScriptedFiles
from tests.support.virtual_time import run

MODEL = "gemini-3.8-flash"
ONE = Caller("name:one", "admin")
OTHER = Caller("name:other", "admin")
LATER_MS = 4_000_000_000_000
QUOTA = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaValue": "10"}],
}
ERRORS = {
    "key": (400, "API key not valid. Please pass a valid API key.", []),
    "day": (429, "You exceeded your current quota.", [QUOTA]),
    "file": (403, "You do not have permission to access the File a or it may not exist.", []),
}


def failure(name: str) -> UpstreamFailure:
    status, message, details = ERRORS[name]
    return read_failure(status, orjson.dumps({"error": {"code": status, "message": message, "details": details}}), {})


def account(name: str, project: str, kind: Any = "api_key", concurrency: int = 4) -> Account:
    return Account(name, project, Secret(name), concurrency, Limits(), kind=kind)


class Scripted:
    """An upstream of any kind: it answers after `took_s`, signs each answer with its kind and a number, and remembers the key and
    the body of each request."""

    def __init__(self, kind: str, took_s: float = 1.0) -> None:
        self.kind, self.took_s = kind, took_s
        self.asked: list[tuple[str, JsonObject]] = []
        self.fails: dict[str, UpstreamFailure] = {}
        self.in_one_frame = False

    async def generate(self, exchange: Exchange) -> JsonObject:
        await self._exchange(exchange)
        return self._answer(f"{self.kind}-{len(self.asked)}")

    @asynccontextmanager
    async def stream(self, exchange: Exchange) -> AsyncIterator[AsyncIterator[JsonObject]]:
        await self._exchange(exchange)

        async def frames() -> AsyncIterator[JsonObject]:
            if not self.in_one_frame:
                yield {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}
            yield self._answer(f"{self.kind}-{len(self.asked)}")

        yield frames()

    async def aclose(self) -> None:
        raise NotImplementedError

    async def _exchange(self, exchange: Exchange) -> None:
        if exchange.before_write is not None and exchange.after_write is not None:
            exchange.before_write()
            exchange.after_write()
        key = exchange.credential.reveal()
        self.asked.append((key, orjson.loads(exchange.body)))
        assert exchange.message == self.asked[-1][1]
        await asyncio.sleep(self.took_s)
        if key in self.fails:
            raise self.fails[key]

    @staticmethod
    def _answer(signature: str) -> JsonObject:
        part = {"text": "Hello.", "thoughtSignature": signature}
        return {
            "candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 2},
        }


class Setting:
    """A gateway over scripted upstreams."""

    def __init__(self, *accounts: Account) -> None:
        self.store = FaultyStore()
        process = ProcessConfig("i" * 32, Grid.of(60.0), tau_s=200.0)
        self.pool = Pool(accounts, caller_limits=Limits(), caller_concurrency=4)
        self.files = ScriptedFiles()
        self.gemini, self.vertex = Scripted("api_key"), Scripted("vertex")
        self.gateway = Gateway(
            self.pool,
            Admission(self.store, process, AdmissionConfig(queue_timeout_s=20.0)),
            {"api_key": self.gemini, "vertex": self.vertex},
            request_timeout_s=200.0,
            byte_budget=ByteBudget(1 << 20),
            large_work=LargeWork(),
            uploads=lambda: cast(Any, self.files),
        )

    async def bind(self, name: str, caller: Caller, place: Account) -> None:
        assert await self.gateway.bind_thing(name, caller, place, LATER_MS)

    def generation(self, *parts: Any, caller: Caller = ONE, contents: list[Any] | None = None) -> Generation:
        body = {"contents": [*(contents or ()), {"role": "user", "parts": [{"text": "Hi"}, *parts]}]}
        return Generation(MODEL, body, caller, elapsed_s() + 100, timeline=Timeline())

    async def ask(self, *parts: Any, **rest: Any) -> Reply:
        return await self.gateway.generate(self.generation(*parts, **rest))

    async def refused(self, *parts: Any, **rest: Any) -> GatewayError:
        with pytest.raises(GatewayError) as raised:
            await self.ask(*parts, **rest)
        return raised.value


def on_a_clock(*accounts: Account) -> Callable[[Callable[[Setting], Awaitable[None]]], None]:
    """Runs the decorated test on a virtual clock with these accounts, at once."""

    def decorate(test: Callable[[Setting], Awaitable[None]]) -> None:
        async def main() -> None:
            setting = Setting(*accounts)
            await test(setting)
            assert len(setting.gateway.admission.queue) == 0
            await setting.gateway.admission.aclose()

        run(main)

    return decorate


def file(name: str) -> JsonObject:
    return {
        "fileData": {"fileUri": f"https://generativelanguage.googleapis.com/v1beta/{name}", "mimeType": "text/plain"}
    }


def signed(signature: str) -> JsonObject:
    return {"role": "model", "parts": [{"text": "Said.", "thoughtSignature": signature}]}


def sent(contents: JsonObject) -> list[str]:
    """The signatures in a body that was sent."""
    return [
        part["thoughtSignature"]
        for content in contents["contents"]
        for part in content["parts"]
        if "thoughtSignature" in part
    ]


A, B = account("a", "p"), account("b", "q")
V = account("v", "w", "vertex")


def test_a_bound_request_goes_to_the_things_project() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.bind("cachedContents/b", ONE, B)
        for _ in range(5):
            assert (await setting.ask(file("files/a"))).account_id == "a"
        generation = setting.generation()
        cached = {**generation.body, "cachedContent": "cachedContents/b"}
        assert (await setting.gateway.generate(Generation(MODEL, cached, ONE, elapsed_s() + 9))).account_id == "b"


def test_a_bound_request_waits_for_its_project() -> None:
    """Other requests overtake it."""

    @on_a_clock(account("a", "p", concurrency=1), B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        bound = [asyncio.create_task(setting.ask(file("files/a"))) for _ in range(10)]
        await asyncio.sleep(0.5)
        free = [asyncio.create_task(setting.ask()) for _ in range(4)]
        assert {reply.account_id for reply in await asyncio.gather(*free)} == {"b"}
        assert sum(task.done() for task in bound) < 5
        assert {reply.account_id for reply in await asyncio.gather(*bound)} == {"a"}


def test_things_of_two_projects_are_refused_by_name() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.bind("files/b", ONE, B)
        error = await setting.refused(file("files/a"), file("files/b"))
        assert isinstance(error, BadRequest)
        assert error.message.startswith("files/a and files/b are stored in two Google projects")
        assert setting.gemini.asked == []


@pytest.mark.parametrize("caller", [OTHER, Caller("ip:127.0.0.1", "anonymous")])
def test_anothers_thing_is_answered_like_an_unknown_one(caller: Caller) -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        others = await setting.refused(file("files/a"), caller=caller)
        unknown = await setting.refused(file("files/x"), caller=caller)
        assert isinstance(others, NotFound)
        assert others.message.replace("files/a", "files/x") == unknown.message
        assert (type(others), others.details) == (type(unknown), unknown.details)
        assert setting.gemini.asked == []


def test_anothers_thing_is_404_before_two_projects_are_400() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.bind("files/b", OTHER, B)
        assert isinstance(await setting.refused(file("files/a"), file("files/b")), NotFound)


def test_with_one_project_an_admins_unbound_file_is_sent() -> None:
    """The operator may have uploaded it. The owner of a bound file is checked in any case."""

    @on_a_clock(A, account("a2", "p"))
    async def _(setting: Setting) -> None:
        await setting.bind("files/bound", OTHER, A)
        await setting.ask(file("files/a"))
        assert len(setting.gemini.asked) == 1
        assert isinstance(await setting.refused(file("files/bound")), NotFound)
        assert isinstance(await setting.refused(file("files/a"), caller=Caller("ip:1", "anonymous")), NotFound)
        setting.gemini.fails = {"a": failure("file"), "a2": failure("file")}
        refused = await setting.refused(file("files/a"))
        assert (type(refused), refused.message) == (
            NotFound,
            (await setting.refused(file("files/a"), caller=OTHER)).message,
        )
        assert len(setting.gemini.asked) == 3


def test_a_callers_own_key_is_never_looked_up() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        own = Caller("key:x", "caller_key", Secret("the-callers-key"))
        await setting.bind("files/a", ONE, A)
        assert await setting.gateway.bind_thing("files/a", own, A, LATER_MS)
        await setting.ask(file("files/a"), caller=own)
        assert [key for key, _ in setting.gemini.asked] == ["the-callers-key"]


def test_without_a_usable_key_of_its_project_the_reason_is_named() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        setting.pool.pause(A, "restricted", "Billing is disabled.")
        error = await setting.refused(file("files/a"))
        assert isinstance(error, NoServerKey)
        assert error.message.startswith("files/a is stored in a Google project whose keys cannot be used now.")
        assert "Billing is disabled." in error.message
        assert error.retry_after_s == pytest.approx(600, abs=1)
        assert (await setting.ask()).account_id == "b"


def test_a_bound_request_is_not_retried_in_another_project() -> None:
    @on_a_clock(A, account("a2", "p"), B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        setting.gemini.fails = {"a": failure("key"), "a2": failure("key")}
        assert isinstance(await setting.refused(file("files/a")), NoServerKey)
        assert sorted(key for key, _ in setting.gemini.asked) == ["a", "a2"]


def test_a_project_without_a_key_any_more_is_404() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, account("gone", "gone"))
        error = await setting.refused(file("files/a"))
        assert (type(error), error.message) == (
            NotFound,
            "files/a is stored in a Google project that this server has no key for any more. Upload it again.",
        )


def test_a_merged_project_is_found_by_its_account() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, account("b", "the-id-before-the-merge"))
        assert (await setting.ask(file("files/a"))).account_id == "b"


C = account("c", "r")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("out", [A, B])
@pytest.mark.parametrize("maker", [A, B])
def test_each_account_of_a_merged_project_serves_its_files(maker: Account, out: Account, fresh: bool) -> None:
    """A file that was made before the merge. `fresh`: the process has used no ledger before."""

    @on_a_clock(A, B, C)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, maker)
        if not fresh:
            assert (await setting.ask(file("files/a"))).account_id == maker.id
        await merge_ledgers(setting.store, "p", "q", 60_000)
        if not fresh:
            assert (await setting.ask(file("files/a"))).account_id == maker.id
        setting.pool.disable(out, "key_invalid", "API key not valid.")
        served = {(await setting.ask(file("files/a"))).account_id for _ in range(3)}
        assert served == {"a", "b"} - {out.id}
        setting.pool.disable(B if out is A else A, "key_invalid", "API key not valid.")
        error = await setting.refused(file("files/a"))
        assert isinstance(error, NoServerKey), "no account of another project is asked"


def test_a_merged_file_outlives_the_account_that_made_it() -> None:
    @on_a_clock(A, C)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, account("removed", "q"))
        await merge_ledgers(setting.store, "p", "q", 60_000)
        assert (await setting.ask(file("files/a"))).account_id == "a"


def test_files_of_two_merged_ledgers_are_of_one_project() -> None:
    @on_a_clock(A, B, C)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.bind("files/b", ONE, B)
        assert isinstance(await setting.refused(file("files/a"), file("files/b")), BadRequest)
        await merge_ledgers(setting.store, "p", "q", 60_000)
        await setting.ask(file("files/b"))
        assert (await setting.ask(file("files/a"), file("files/b"))).account_id in ("a", "b")


def test_when_merges_cannot_be_read_nothing_is_sent() -> None:
    @on_a_clock(A, B, C)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.ask(file("files/a"))
        setting.pool.disable(A, "key_invalid", "API key not valid.")
        setting.store.failure = StoreUnavailable
        assert isinstance(await setting.refused(file("files/a")), LedgerUnavailable)


def test_a_signature_goes_back_to_its_backend() -> None:
    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        setting.pool.pause(V, "restricted", "")
        assert (await setting.ask()).account_id == "a"
        setting.pool._disabled.clear()
        for _ in range(6):
            reply = await setting.ask(contents=[signed("api_key-1")])
            assert (reply.account_id, reply.signatures_replaced) == ("a", False)
        assert setting.vertex.asked == []


def test_a_streams_signature_is_known_with_its_last_frame() -> None:
    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        setting.pool.pause(A, "restricted", "")
        async with setting.gateway.stream(setting.generation()) as reply:
            async for frame in reply:
                if frame["candidates"][0].get("finishReason"):
                    assert len(await setting.store.list("bindings/")) == 1
        setting.pool._disabled.clear()
        for _ in range(4):
            assert (await setting.ask(contents=[signed("vertex-1")])).account_id == "v"


def test_the_signature_of_a_stream_of_one_frame_is_written() -> None:
    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        setting.gemini.in_one_frame = setting.vertex.in_one_frame = True
        async with setting.gateway.stream(setting.generation()) as reply:
            assert len([frame async for frame in reply]) == 1
            assert len(await setting.store.list("bindings/")) == 1


def test_a_dead_backends_signatures_are_replaced_once() -> None:
    """Those of the backend that answers, and unknown ones, stay."""

    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        await setting.gateway.places.signatures.record(["vertex-0"], "vertex")
        await setting.gateway.places.signatures.record(["api_key-0"], "api_key")
        setting.gemini.fails = {"a": failure("key")}
        history = [signed("vertex-0"), signed("unknown"), signed("api_key-0")]
        generation = setting.generation(contents=history)
        reply = await setting.gateway.generate(generation)
        assert (reply.account_id, reply.signatures_replaced, generation.timeline.signatures_replaced) == (
            "v",
            True,
            True,
        )
        ((_, first),) = setting.gemini.asked
        assert sent(first) == [PLACEHOLDER, "unknown", "api_key-0"]
        ((_, second),) = setting.vertex.asked
        assert sent(second) == ["vertex-0", "unknown", PLACEHOLDER]
        assert (await setting.ask(contents=[signed("vertex-1")])).signatures_replaced is False


@pytest.mark.parametrize("streamed", [False, True])
def test_a_backend_whose_day_is_spent_is_left(streamed: bool) -> None:
    """When Gemini says so, and afterwards when the ledger does."""

    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        await setting.gateway.places.signatures.record(["api_key-0"], "api_key")
        setting.gemini.fails = {"a": failure("day")}
        for _ in range(2):
            generation = setting.generation(contents=[signed("api_key-0")])
            if streamed:
                async with setting.gateway.stream(generation) as reply:
                    assert reply.head.account_id == "v"
            else:
                assert (await setting.gateway.generate(generation)).account_id == "v"
        assert (len(setting.gemini.asked), len(setting.vertex.asked)) == (1, 2)


def test_a_bound_file_is_never_left_for_a_backend() -> None:
    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        await setting.bind("files/a", ONE, A)
        await setting.gateway.places.signatures.record(["api_key-0", "vertex-0"], "api_key")
        await setting.gateway.places.signatures.record(["vertex-0"], "vertex")
        reply = await setting.ask(file("files/a"), contents=[signed("vertex-0")])
        assert (reply.account_id, reply.signatures_replaced) == ("a", True)
        setting.gemini.fails = {"a": failure("key")}
        assert isinstance(await setting.refused(file("files/a"), contents=[signed("api_key-0")]), NoServerKey)
        assert setting.vertex.asked == []


def test_one_backend_writes_and_reads_no_signatures() -> None:
    @on_a_clock(A, B)
    async def _(setting: Setting) -> None:
        await setting.ask(contents=[signed("api_key-0")])
        assert await setting.store.list("bindings/") == []


def test_an_unbound_file_is_sent_where_only_it_can_be() -> None:
    """Vertex has no files; its caches name their project."""

    @on_a_clock(A, V)
    async def _(setting: Setting) -> None:
        for _ in range(4):
            assert (await setting.ask(file("files/a"))).account_id == "a"
        body = {**setting.generation().body, "cachedContent": "projects/w/locations/global/cachedContents/1"}
        for _ in range(4):
            assert (await setting.gateway.generate(Generation(MODEL, body, ONE, elapsed_s() + 9))).account_id == "v"
