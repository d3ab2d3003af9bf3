"""Every function on one local port, each as functions-framework serves it: `python -m functions.serve`.

Settings come from the environment and from .env beside this folder. Without a Gemini key it answers from the offline
Gemini, so that it needs neither an account nor a network.
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
from shared.clock import elapsed_s
from shared.http.endpoint import Edge
from shared.http.manifest import Manifest, ManifestError, load_all, owners
from shared.http.protocol import BoundedProtocol
from shared.settings.settings import Settings, SettingsError
from shared.settings.upstream import GOOGLE_ORIGIN
from shared.stores.port import StoreUnavailable

FUNCTIONS = Path(__file__).resolve().parent
GRACE_S = 5
"""How long requests under way may take to end, once the server is told to stop."""
MAX_LOST_WORKERS = 3
LOST_WORKERS_WINDOW_S = 60.0
"""Worker processes that may end by themselves within this time; at the last of them the server stops, since replacing
them does not help."""
_BACKLOG = 2048
_REACHED_AS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}


class ServeError(Exception):
    """Why the server does not start, in one sentence."""


class Router:
    """The ASGI application of all functions. A path goes to the function to which the URL map would send it."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._apps = {manifest.name: _load(manifest) for manifest in manifests}
        self._owners = owners(manifests)
        paths = {pattern: methods for manifest in manifests for pattern, methods in manifest.paths.items()}
        self._not_found = Edge(_not_called, Manifest("this server", "", paths, "public", 1, 1, 1, 1, ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._owners.owner(scope["path"], scope.get("raw_path") or b"")
        if name is not None:
            await self._apps[name](scope, receive, send)
            return
        response = await self._not_found.answer(Request(scope, receive, send))
        await response(scope, receive, send)


class Server(uvicorn.Server):
    """Ends with status 0 when it is told to stop (uvicorn's own then dies of the signal), and tells when it is ready."""

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
    """0 when it was told to stop, 1 when it could not start or lost too many workers."""
    options = _options(arguments)
    # Images' names are their only credential, and the ledger is the server's alone: other users of the machine read neither.
    os.umask(0o077)
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
        help="ALLOW_ANONYMOUS where neither environment nor .env has it",
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
    """Serves until told to stop. The services are made now, so that what is wrong with them is told at the start."""
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
    """Worker processes that share one socket. A worker that ends by itself is replaced, until too many have ended.
    All of them end with this process, however it ends: they read the end of a pipe that only this process holds open."""
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
                    print(f"A worker process ended ({why}); another one starts.", file=sys.stderr, flush=True)
                    await start()
        os.close(held)
        os.close(pipe)
        await _all_ended(running)
    if not stop.done():
        stop.cancel()
        raise ServeError(
            f"{MAX_LOST_WORKERS} worker processes ended within {LOST_WORKERS_WINDOW_S:g} s, so the server stopped. What "
            "they printed is above; one that ended by signal 9 may have been out of memory."
        )


def recent(lost_s: Sequence[float]) -> list[float]:
    """Of the times (elapsed seconds, ascending) those within the window that ends at the last of them."""
    return [lost for lost in lost_s if lost > lost_s[-1] - LOST_WORKERS_WINDOW_S]


def _end_of(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


async def _all_ended(running: Mapping[asyncio.Task[int], asyncio.subprocess.Process]) -> None:
    """Waits for processes that were told to stop, and kills those that do not stop in time."""
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
    """The application that functions-framework makes of a function's module, whose every function is called `main`."""
    module = importlib.import_module(f"functions.{manifest.name}.main")
    app: ASGIApp = create_asgi_app_from_module(  # type: ignore[no-untyped-call]
        manifest.name, module.__file__, "http", module, module.__spec__
    )
    return app


async def _not_called(_: object) -> dict[str, object]:
    raise NotImplementedError("no path leads here")


def _admin_key() -> str | None:
    """Where none is set, makes one for this run and returns it."""
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
                f"ALLOW_ANONYMOUS names {manifest.name}, which always needs a credential; remove it there."
            )
    return settings


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        # Not by its number: that of a name which is not found is the resolver's. Python adds where it was bound to.
        why = str(error.strerror).partition(" (while")[0]
        raise ServeError(f"Port {port} on {host} cannot be used ({why}); set PORT (and HOST) to another.") from None


@contextlib.asynccontextmanager
async def _upstream(settings: Settings) -> AsyncIterator[str | None]:
    """The offline Gemini's address while it stands in, which is when there is neither a key nor another upstream."""
    if settings.server_keys or settings.base_url != GOOGLE_ORIGIN:
        yield None
        return
    # Not in the bundle, and not needed with a key.
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


def _announcement(settings: Settings, port: int, upstream: str | None, generated: str | None) -> list[str]:
    """What a person needs to make the first call. A key that was given is not shown, only where it came from."""
    address = f"http://{_REACHED_AS.get(settings.host, settings.host)}:{port}"
    lines = [f"Serving on {address}"]
    if upstream is not None:
        lines.append(f"No GEMINI_API_KEY is set: the offline Gemini at {upstream} answers, with made-up text.")
    if generated is not None:
        lines.append(f"Admin key of this run: {generated} (set ADMIN_API_KEY, for example in .env, to keep one)")
    else:
        lines.append("Admin key: the one in ADMIN_API_KEY")
    if settings.allow_anonymous and settings.host not in ("127.0.0.1", "localhost", "::1"):
        lines.append(f"Anybody who reaches {settings.host} may call {', '.join(sorted(settings.allow_anonymous))}.")
    lines.append("Try:")
    lines.append(
        f"  curl {address}/chat -H 'Content-Type: application/json' "
        f'-H "Admin-API-Key: {generated or "$ADMIN_API_KEY"}" -d \'{{"prompt": "Hello"}}\''
    )
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
