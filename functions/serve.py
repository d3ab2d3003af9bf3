"""Serves all functions on one local port, each as functions-framework does: `python -m functions.serve`.

Settings come from the environment and from .env in the parent folder. Without a Gemini key the offline Gemini serves the
requests, so neither an account nor a network is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import uvicorn
import uvloop
from dotenv import load_dotenv
from functions_framework.aio import create_asgi_app_from_module
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.bootstrap import services
from shared.bounds.open_files import raise_open_files
from shared.clock import elapsed_s
from shared.configuration.store import ConfigurationStore
from shared.errors import GatewayError
from shared.http.endpoint import EndpointApp
from shared.http.manifest import Manifest, ManifestError, load_all, owners
from shared.http.protocol import BoundedProtocol
from shared.settings.settings import Settings, SettingsError
from shared.settings.upstream import GOOGLE_ORIGIN
from shared.stores.port import StoreUnavailable
from shared.stores.url import open_store

FUNCTIONS = Path(__file__).resolve().parent
GRACE_S = 5
"""How long running requests may take after the server received the signal to stop."""
MAX_LOST_WORKERS = 3
LOST_WORKERS_WINDOW_S = 60.0
"""After MAX_LOST_WORKERS unexpected ends of worker processes within this time the server stops, since replacing them does not
help."""
_BACKLOG = 2048
_REACHED_AS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}


class ServeError(Exception):
    """Why the server does not start, and what to change."""


class Router:
    """The ASGI application of all functions. A path goes to the function to which the URL map would send it."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._apps = {manifest.name: _load(manifest) for manifest in manifests}
        self._owners = owners(manifests)
        paths = {pattern: methods for manifest in manifests for pattern, methods in manifest.paths.items()}
        self._not_found = EndpointApp(_not_called, Manifest("this server", "", paths, "public", 1, 1, 1, 1, ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._owners.owner(scope["path"], scope.get("raw_path") or b"")
        if name is not None:
            await self._apps[name](scope, receive, send)
            return
        response = await self._not_found.answer(Request(scope, receive, send))
        await response(scope, receive, send)


class Server(uvicorn.Server):
    """uvicorn's server, but a signal ends it with status 0 (uvicorn's raises the signal again), and it calls `ready`."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with on_signal(lambda number: self.handle_exit(number, None)):
            yield


def main(arguments: Sequence[str]) -> int:
    """Returns 0 after a signal to stop, 1 if the server could not start or lost too many workers."""
    options = _options(arguments)
    # Other users of the machine must read neither images (their names are the only credential) nor the ledger.
    os.umask(0o077)
    raise_open_files()
    try:
        if options.worker:
            uvloop.run(_worker(*options.worker))
        else:
            load_dotenv(FUNCTIONS.parent / ".env")
            os.environ.setdefault("ALLOW_ANONYMOUS", options.allow_anonymous)
            uvloop.run(_serve())
    except (ServeError, SettingsError, ManifestError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m functions.serve", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--allow-anonymous",
        default="",
        metavar="NAMES",
        help="the value of ALLOW_ANONYMOUS if neither the environment nor .env sets it",
    )
    parser.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


async def _serve() -> None:
    manifests = load_all(FUNCTIONS)
    generated = _admin_key()
    settings = _settings(manifests)
    listener = _listen(settings.host, settings.port)
    async with _upstream(settings) as upstream:
        lines = _announcement(settings, listener.getsockname()[1], upstream, generated)

        def announce() -> None:
            print(*lines, sep="\n", flush=True)

        if settings.workers == 1:
            await _work(manifests, listener, announce)
        else:
            await _supervise(settings.workers, listener, announce)


async def _work(manifests: Sequence[Manifest], listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal to stop. Creates the services first, so that their errors are reported at the start."""
    try:
        made = services()
    except StoreUnavailable as error:
        raise ServeError(f"LEDGER_URL cannot be used: {error}") from None
    try:
        await Server(Router(manifests), ready).serve([listener])
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await made.aclose()


async def _supervise(workers: int, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Runs worker processes that share one socket. A worker that ends unexpectedly is replaced, until too many have ended.
    All workers end with this process, also if it is killed: each waits for the end of a pipe that only this process keeps
    open."""
    pipe, held = os.pipe()
    arguments = ["-m", "functions.serve", "--worker", str(listener.fileno()), str(pipe)]

    running: dict[asyncio.Task[int], asyncio.subprocess.Process] = {}

    async def start() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, pass_fds=(listener.fileno(), pipe))
        running[asyncio.create_task(process.wait())] = process

    lost_s: list[float] = []
    stopped = asyncio.Event()
    stop = asyncio.create_task(stopped.wait())
    with on_signal(lambda _: stopped.set()):
        for _ in range(workers):
            await start()
        ready()
        while not stop.done() and len(lost_s) < MAX_LOST_WORKERS:
            await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
            for ended in [task for task in running if task.done()]:
                del running[ended]
                lost_s = recent([*lost_s, elapsed_s()])
                if not stop.done() and len(lost_s) < MAX_LOST_WORKERS:
                    why = _end_of(ended.result())
                    print(
                        f"A worker process ended unexpectedly ({why}); starting another one.",
                        file=sys.stderr,
                        flush=True,
                    )
                    await start()
        os.close(held)
        os.close(pipe)
        await _all_ended(running)
    if not stop.done():
        stop.cancel()
        raise ServeError(
            f"{MAX_LOST_WORKERS} worker processes ended within {LOST_WORKERS_WINDOW_S:g} s, so the server stopped. See their "
            "output above; a worker that ended by signal 9 may have run out of memory."
        )


def recent(lost_s: Sequence[float]) -> list[float]:
    """Those of the times (elapsed seconds, ascending) that are within the window that ends at the last one."""
    return [lost for lost in lost_s if lost > lost_s[-1] - LOST_WORKERS_WINDOW_S]


def _end_of(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


async def _all_ended(running: Mapping[asyncio.Task[int], asyncio.subprocess.Process]) -> None:
    """Waits for the processes to stop, and kills those that do not stop in time."""
    if not running:
        return
    _, late = await asyncio.wait(running, timeout=3 * GRACE_S)
    for task in late:
        running[task].kill()
    await asyncio.gather(*running)


async def _worker(listener_fd: int, pipe_fd: int) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(pipe_fd)
        os.kill(os.getpid(), signal.SIGTERM)

    await _work(load_all(FUNCTIONS), socket.socket(fileno=listener_fd), lambda: loop.add_reader(pipe_fd, stop))


@contextlib.contextmanager
def on_signal(react: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, react, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _load(manifest: Manifest) -> ASGIApp:
    """The application that functions-framework creates from the function's module."""
    module = importlib.import_module(f"functions.{manifest.name}.main")
    app: ASGIApp = create_asgi_app_from_module(  # type: ignore[no-untyped-call]
        manifest.name, module.__file__, "http", module, module.__spec__
    )
    return app


async def _not_called(_: object) -> dict[str, object]:
    raise NotImplementedError("the application without functions has no handler")


def _admin_key() -> str | None:
    """Generates and returns a key for this run; None if ADMIN_API_KEY is set."""
    if os.environ.get("ADMIN_API_KEY", "").strip():
        return None
    generated = secrets.token_urlsafe(24)
    os.environ["ADMIN_API_KEY"] = generated
    return generated


def _settings(manifests: Sequence[Manifest]) -> Settings:
    settings = Settings.from_environment(os.environ)
    for manifest in manifests:
        if manifest.name in settings.allow_anonymous and manifest.access == "credential":
            raise ServeError(
                f"ALLOW_ANONYMOUS names {manifest.name}, which always requires a credential. Remove it from ALLOW_ANONYMOUS."
            )
    return settings


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        # `strerror`, since the number of an unknown host is the resolver's. Python appends the address to it.
        why = str(error.strerror).partition(" (while")[0]
        raise ServeError(f"Port {port} on {host} cannot be used ({why}). Set PORT or HOST to another value.") from None


@contextlib.asynccontextmanager
async def _upstream(settings: Settings) -> AsyncIterator[str | None]:
    """Runs the offline Gemini if there is neither a key nor a stored account nor another upstream, and yields its address; else
    yields None."""
    if settings.server_keys or settings.base_url != GOOGLE_ORIGIN or await _may_have_stored_accounts(settings):
        yield None
        return
    # Imported here: not in the bundle, and not needed with a key.
    from shared.emulator.config import ConfigError, from_env
    from shared.emulator.running import running

    try:
        config = from_env(os.environ)
    except ConfigError as error:
        raise ServeError(str(error)) from None
    async with running(config, port=0) as emulator:
        os.environ["GEMINI_BASE_URL"] = emulator.url
        os.environ["GEMINI_API_KEY"] = "offline-gemini-key"
        yield emulator.url


async def _may_have_stored_accounts(settings: Settings) -> bool:
    """Also where the store cannot be read: the offline Gemini must not answer in place of an account that is there."""
    store = open_store(settings.ledger_url)
    try:
        return any(record.enabled for record in await ConfigurationStore(store).accounts())
    except GatewayError:
        return True
    finally:
        await store.aclose()


def _announcement(settings: Settings, port: int, upstream: str | None, generated: str | None) -> list[str]:
    """What a person needs for the first request. A configured key is not shown, only a generated one."""
    address = f"http://{_REACHED_AS.get(settings.host, settings.host)}:{port}"
    lines = [f"Serving on {address}"]
    if upstream is not None:
        lines.append(f"No GEMINI_API_KEY is set: the offline Gemini at {upstream} answers with made-up text.")
    if generated is not None:
        lines.append(f"Admin key of this run: {generated} (set ADMIN_API_KEY, for example in .env, to keep one)")
    else:
        lines.append("Admin key: the one in ADMIN_API_KEY")
    if settings.allow_anonymous and settings.host not in ("127.0.0.1", "localhost", "::1"):
        lines.append(
            f"Without a credential, anyone who can reach {settings.host} may call {', '.join(sorted(settings.allow_anonymous))}."
        )
    lines.append(f"Try it in a browser: {address}/try")
    lines.append("Try it with curl:")
    lines.append(
        f"  curl {address}/chat -H 'Content-Type: application/json' "
        f'-H "Admin-API-Key: {generated or "$ADMIN_API_KEY"}" -d \'{{"prompt": "Hello"}}\''
    )
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
