"""The whole path in one process: functions behind uvicorn, their real services, and an offline Gemini, on real sockets.

At the end of every test nothing may be left: no slot, booking or waiting request in the ledger, no open request at
Gemini, no task; and everything that was sent to Gemini is counted in the ledger. All documents are in collections to
which Terraform gives a TTL policy.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest.mock import patch

import aiohttp
import orjson

from functions.serve import FUNCTIONS, Router, Server
from shared.accounts.account import Account
from shared.bootstrap import Services
from shared.clock import elapsed_s
from shared.emulator import Emulator, EmulatorConfig, running
from shared.emulator.config import Project
from shared.emulator.stats import label
from shared.generation import NO_COST
from shared.http.manifest import load_all
from shared.ledger.names import section_of
from shared.ledger.packing import unpack
from shared.ledger.state import State
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.memory import MemoryStore
from shared.stores.port import Store
from tests.support.edge import ADMIN, ADMIN_KEY, Answer
from tests.support.processes import ROOT
from tests.support.service_accounts import known_service_accounts

SERVER_KEY = "AQ.a-key-of-the-server"
OWN_KEY = "AQ.a-key-of-the-caller"
OWN_LEDGER = f"u-{Secret(OWN_KEY).fingerprint('ledger')}"
MODEL = "gemini-3.8-flash"
WAYS = ("chat", "generate_text", "stream")
"""The ways to send a prompt: all of them report a failure before the first text in the same way."""

_SETTINGS = {
    "ADMIN_API_KEY": ADMIN_KEY,
    # The offline Gemini stops working when its client disconnects.
    "GEMINI_CANCELS": "1",
    "LEDGER_URL": "memory://",
    "REQUEST_TIMEOUT_SECONDS": "5",
    "LEDGER_WINDOW_SECONDS": "6",
}
_PATIENCE_S = 20.0
_IN_TERRAFORM = re.search(r"collections\s*=\s*toset\((\[.*?\])\)", (ROOT / "terraform/firestore.tf").read_text())
COLLECTIONS = frozenset(orjson.loads(_IN_TERRAFORM[1] if _IN_TERRAFORM else "[]"))


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    until_s = elapsed_s() + within_s
    while not condition():
        assert elapsed_s() < until_s, "it never came about"
        await asyncio.sleep(0.01)


def told(answer: Answer) -> tuple[int, str]:
    """Status and code of an error, which must have our format and the request's id."""
    error = answer.error
    assert (error["status"], error["request_id"]) == (answer.status, answer.headers["x-request-id"])
    assert error["message"]
    return answer.status, error["code"]


def text_of(answer: Answer) -> str:
    """The text of an answer in any of the WAYS."""
    assert answer.status == 200, answer.body
    if answer.headers["content-type"].startswith("text/event-stream"):
        *texts, (_, done) = answer.events()
        assert done["done"] is True
        return "".join(event["text"] for _, event in texts)
    body = answer.json()
    return str(body["generated_text"] if "generated_text" in body else body["text"])


class WholePath:
    """A running gateway. `gemini` is the upstream, `services` are those of bootstrap."""

    def __init__(self, services: Services, gemini: Emulator, server: Server, session: aiohttp.ClientSession) -> None:
        self.services, self.gemini, self._server, self._session = services, gemini, server, session
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self._elsewhere: Counter[str] = Counter()
        """By key, the requests that Gemini had from somebody else."""

    # -- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        prompt: str = "Hello",
        *,
        way: str = "chat",
        key: str | None = None,
        timeout_s: float | None = None,
        into: Answer | None = None,
        **fields: Any,
    ) -> Answer:
        """One prompt on the server's accounts, or with the caller's own `key`; `timeout_s` is the caller's deadline."""
        body: dict[str, Any] = {"prompt": prompt, **fields}
        headers = {} if key is not None else dict(ADMIN)
        if key is not None:
            body["credentials"] = {"gemini_api_key": key}
        if way == "stream":
            body["stream"] = True
        if timeout_s is not None:
            headers["x-request-timeout"] = str(timeout_s)
        path = "/generate_text" if way == "generate_text" else "/chat"
        return await self.send("POST", path, orjson.dumps(body), headers, into=into)

    async def send(
        self,
        method: str = "POST",
        path: str = "/chat",
        content: Any = b"",
        headers: Mapping[str, str] = ADMIN,
        *,
        into: Answer | None = None,
    ) -> Answer:
        """Any request. `into` gets the answer as it arrives, for callers that disconnect before its end."""
        answer = into or Answer()
        given = {"content-type": "application/json", **headers}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.request(method, url, data=content, headers=given) as response:
            answer.status = response.status
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            async for chunk in response.content.iter_any():
                answer.chunks.append(chunk)
                answer.arrived.set()
        answer.complete = True
        for secret in (SERVER_KEY, OWN_KEY, ADMIN_KEY):
            assert secret not in answer.body.decode(errors="replace") + str(answer.headers)
        return answer

    @asynccontextmanager
    async def asking(self, prompt: str, **rest: Any) -> AsyncIterator[asyncio.Task[Answer]]:
        """A request under way; the caller disconnects at the end of the block at the latest."""
        task = asyncio.create_task(self.ask(prompt, **rest))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def spend_elsewhere(self, key: str) -> None:
        """One request to Gemini that does not pass through the gateway."""
        body = {"contents": [{"parts": [{"text": "Hello"}]}]}
        url = f"{self.gemini.url}/v1beta/models/{MODEL}:generateContent"
        async with self._session.post(url, json=body, headers={"x-goog-api-key": key}) as answer:
            assert answer.status == 200
        self._elsewhere[key] += 1

    async def raw(self, request: bytes, *, hang_up: bool = False) -> bytes:
        """The response to exactly these bytes, until the server closes the connection or sends nothing for a moment; `hang_up`
        closes the connection after the last byte."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            writer.write(request)
            await writer.drain()
            with suppress(TimeoutError):
                while not hang_up and (chunk := await asyncio.wait_for(reader.read(65536), 0.2 if received else 10)):
                    received += chunk
        finally:
            writer.close()
        return received

    @asynccontextmanager
    async def deaf_caller(self, request: bytes) -> AsyncIterator[socket.socket]:
        """A caller that sends `request`, does not read the answer, and disconnects at the end of the block at the latest."""
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(caller, ("127.0.0.1", self.port))
            await loop.sock_sendall(caller, request)
            yield caller

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        """Requests that reached Gemini."""
        return int(self.gemini.stats()["requests"])

    @property
    def sent_by_key(self) -> dict[str, int]:
        keys = self.gemini.app.stats._config.keys
        seen = self.gemini.stats()["keys"]
        return {key: seen[label(key)]["requests"] for key in keys if label(key) in seen}

    @property
    def open_upstream(self) -> int:
        return int(self.gemini.stats()["open"])

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return bool(self._server.server_state.tasks)

    @property
    def exchanges(self) -> int:
        """The exchanges that hold a slot here."""
        return sum(len(agent.holdings.open) for agent in self.services.admission.projects.values())

    @property
    def waiting(self) -> int:
        return len(self.services.admission.queue)

    async def ledgers(self) -> dict[str, State]:
        """The ledgers in the store, by project."""
        store, states = self.services.store, {}
        for key in await store.list("ledger/"):
            blob = (await store.read(key)).value
            assert blob is not None
            states[key.removeprefix("ledger/")] = unpack(blob)
        return states

    async def dispatched(self, project: str = "server") -> int:
        """The requests that the ledger counted today as sent to Gemini, over all models."""
        states = await self.ledgers()
        return _counted(states[project]) if project in states else 0

    async def quiet(self, within_s: float = 30.0) -> None:
        """Wait for the end of work that continues after its caller was answered or disconnected."""
        agents = self.services.admission.projects
        await eventually(lambda: not self.busy, within_s)
        await eventually(lambda: not any(agent.has_unreported() for agent in agents.values()), within_s)
        await eventually(lambda: self.open_upstream == 0, within_s)

    # -- judging -----------------------------------------------------------------------------------------------------

    async def assert_nothing_is_left(self) -> None:
        queue = self.services.admission.queue
        assert len(queue) == 0, "requests wait"
        assert self.exchanges == 0, "exchanges are open"
        states = await self.ledgers()
        for project, state in states.items():
            for lease in state.leases.values():
                slots = sum(end_ms > self.services.admission.clock.latest_ms() for end_ms in lease.ends_ms)
                held = (slots if lease.ends_ms else lease.slots, lease.cap, lease.want_slots, lease.oldest_ms)
                assert held == (0, 0, 0, 0), f"{project}: (slots, cap, wanted, oldest) are {held}"
                for model, share in lease.shares.items():
                    assert not share.bookings, f"{project}: {model} has bookings {share.bookings}"
                    assert share.unmet == NO_COST, f"{project}: {model} has unmet demand {share.unmet}"
        self._assert_all_is_counted(states)
        if isinstance(self.services.store, MemoryStore):
            kept = {key.partition("/")[0] for key in self.services.store._shelf.entries}
            assert kept <= COLLECTIONS, "a collection that is not in terraform/firestore.tf"

    def _assert_all_is_counted(self, states: Mapping[str, State]) -> None:
        """A request counts once its first byte is written, whatever Gemini answers: the arrivals, and so what was admitted."""
        stats = self.gemini.stats()
        projects = self.gemini.app.stats._config.keys
        foreign = Counter({projects[key]: count for key, count in self._elsewhere.items()})
        assert stats["open"] == 0, "requests are open at Gemini"
        for project, seen in stats["projects"].items():
            for model, record in seen["models"].items():
                state = states[_ledger_of(project, states)]
                section = state.sections.get(section_of(state.names, model))
                counted = sum(section.days.values()) if section is not None else 0
                admitted = record["admitted"] - foreign[project]
                assert admitted <= counted, f"{project}: Gemini admitted {admitted}, not {counted}"
        # countTokens needs no permit, and no day counts a request for a missing model; a key's record does not distinguish
        # these from other requests.
        uncounted = int(stats["by_method"].get("countTokens", 0)) + int(stats["answered"].get("404", 0))
        arrived: Counter[str] = Counter()
        for key, count in self.sent_by_key.items():
            arrived[_ledger_of(projects[key], states)] += count
        for project, count in foreign.items():
            arrived[_ledger_of(project, states)] -= count
        for ledger, asked in arrived.items():
            counted = _counted(states[ledger]) if ledger in states else 0
            assert asked - uncounted <= counted, (
                f"{ledger}: Gemini was asked {asked} times, the ledger counted {counted}"
            )


def _ledger_of(project: str, states: Mapping[str, State]) -> str:
    """The ledger that counts the project's requests: another one's, if they turned out to be one project.

    The name of a project that is not of the Gemini API has a slash, which no ledger's id has."""
    project = project.replace("/", "-")
    while project in states and states[project].moved:
        project = states[project].moved
    return project


def _counted(state: State) -> int:
    return sum(count for section in state.sections.values() for count in section.days.values())


@asynccontextmanager
async def whole_path(
    *,
    upstream: Project | None = None,
    accounts: Mapping[str, str] | None = None,
    store: Store | None = None,
    base_url: str | None = None,
    aliases: Mapping[str, str] | None = None,
    cancels: bool = True,
    callers: Iterable[str] = (OWN_KEY,),
    others: Sequence[Account] = (),
    **settings: Any,
) -> AsyncIterator[WholePath]:
    """`settings` are environment variables; `accounts` maps the gateway's Gemini keys to their projects; `upstream` is
    what Gemini allows each project (anything, if not given); `base_url` leads elsewhere than to Gemini; `aliases` are further ids
    there, each with the model that it is metered as; `cancels`: Gemini stops working on a request when its client disconnects;
    `callers` are the keys that callers bring; `others` are accounts of other kinds, which the environment does not have."""
    before = asyncio.all_tasks()
    accounts = {SERVER_KEY: "server"} if accounts is None else accounts
    folder = tempfile.TemporaryDirectory()
    given = {
        "STORAGE_URL": f"file://{folder.name}",
        **_SETTINGS,
        **{name: str(value) for name, value in settings.items()},
    }
    for number, (key, project) in enumerate(accounts.items(), 1):
        given[f"GEMINI_API_KEY_{number}"], given[f"GEMINI_API_KEY_{number}_PROJECT"] = key, project
    config = EmulatorConfig(
        keys={**{key: f"u-{Secret(key).fingerprint('ledger')}" for key in callers}, **accounts},
        default_project=upstream or Project(),
        aliases=aliases or {},
        window_s=float(given["LEDGER_WINDOW_SECONDS"]),
        cancels=cancels,
        service_accounts=known_service_accounts() if others else {},
    )
    async with running(config) as gemini:
        hosts = {
            "GEMINI_BASE_URL": base_url or gemini.url,
            "VERTEX_BASE_URL": gemini.url,
            "OAUTH_TOKEN_URL": f"{gemini.url}/token",
            "ENTERPRISE_BASE_URL": gemini.url,
            "ENTERPRISE_SESSION_BASE_URL": gemini.url,
        }
        services = _services(Settings.from_environment({**hosts, **given}), store)
        serve_too(services, others)
        try:
            with patch("shared.bootstrap.services", lambda: services):
                async with _serving() as server, _session() as session:
                    path = WholePath(services, gemini, server, session)
                    yield path
                    await path.assert_nothing_is_left()
                    assert path.services.byte_budget.used_bytes == 0, "bytes of requests are held"
        finally:
            await services.aclose()
            folder.cleanup()
    await eventually(lambda: asyncio.all_tasks() <= before)


def serve_too(services: Services, others: Sequence[Account]) -> None:
    """Puts accounts into the pool that are neither in the environment nor stored."""
    plain = services.pool.replace

    def replace(server: Sequence[Account], **more: Any) -> bool:
        return plain([*server, *others], **more)

    services.pool.replace = replace  # type: ignore[method-assign]
    settings = services.settings
    services.pool.replace(
        services.pool.server, caller_limits=settings.caller_limits, caller_concurrency=settings.concurrency_limit
    )


def _services(settings: Settings, store: Store | None) -> Services:
    """The services without lingering: only a local process keeps permits after its last request."""
    with patch("shared.engine.LINGER_S", 0.0):
        if store is None:
            return Services(settings)
        with patch("shared.engine.open_store", lambda _: store):
            return Services(settings)


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


@functools.cache
def _router() -> Router:
    return Router(load_all(FUNCTIONS))


@asynccontextmanager
async def _serving() -> AsyncIterator[Server]:
    """The local server without its signal handlers and its own loop, since a test is one of many in this process."""
    server = Server(_router(), lambda: None)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    # With the protocol given, asyncio turns Nagle's algorithm off, as uvloop always does.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Small, so that a caller that does not read is noticed.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    listener.bind(("127.0.0.1", 0))
    await server.startup([listener])
    state = server.server_state
    try:
        yield server
    finally:
        for listening in server.servers:
            listening.close()
        for connection in list(state.connections):
            connection.shutdown()
        await eventually(lambda: not state.tasks and not state.connections, 10.0)
