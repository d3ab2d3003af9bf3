"""The wiring of the server, on top of the engine. Importing it does no work; a worker calls `services()`."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from functools import cached_property, partial
from typing import TYPE_CHECKING

from shared.accounts.records import OutReason
from shared.auth.admin_guesses import AdminGuesses
from shared.auth.caller_rate import CallerRate
from shared.clock import unix_s
from shared.configuration.live import Applied, LiveConfiguration
from shared.configuration.rejections import Rejections
from shared.configuration.store import ConfigurationStore
from shared.engine import Engine, environment_accounts, weights_of
from shared.generation import JsonObject
from shared.ledger.grid import Grid
from shared.media.port import FILES
from shared.media.url import open_media, open_objects
from shared.ops.health import Health, Ledger
from shared.settings.accounts import file_to_import
from shared.settings.settings import Settings
from shared.settings.shares import (
    UPLOAD_WINDOW_S,
    caller_key_connections,
    fetch_limit,
    strangers_bytes,
    upload_limit,
)
from shared.stores.url import open_store
from shared.telemetry.record import log_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from shared.accounts.same_project import Found
    from shared.files.files import Files
    from shared.media.look_ups import LookUps
    from shared.media.media import MediaStore
    from shared.ops.accounts_desk import Desk
    from shared.telemetry.spans import Tracer


MIN_OBJECTS_PER_COLLECTION = 10_000


class Services(Engine):
    """The services that all functions of one process share, on one event loop: the engine, and what HTTP and its operator need.

    `settings` are the environment's, with the defaults of the stored configuration as of the last `refresh`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, environment_accounts(settings), signatures_ms=settings.session_ttl_hours * 3_600_000)
        self.configurations = ConfigurationStore(self.store, log=_log_error)
        self.live = LiveConfiguration(
            settings, self.configurations, apply=self._apply, hold=self.pool.hold, log=_log_error
        )
        self._rejections = Rejections(self.configurations)
        self.pool.on_disabled = self._report_disabled
        self.caller_rate = CallerRate(self.store, settings.rate_limit, settings.window_s)
        self.fetch_rate = CallerRate(self.store, fetch_limit(settings), settings.window_s, counted="fetched addresses")
        self.upload_rate = CallerRate(self.store, upload_limit(settings), UPLOAD_WINDOW_S, counted="uploaded megabytes")
        self.admin_guesses = AdminGuesses()
        self._health = Health(settings, self.store, self.pool, refresh=self.refresh, stored=self.live)
        self.tracer = self._tracer(settings)
        self.at_close: list[Callable[[], Awaitable[None]]] = []
        """Closes what the packages above made for this process; called first."""
        self._writes_told = 0
        self._import_due = file_to_import(settings.accounts) is not None
        """The old program's file is there, and not known to be imported."""
        self._importing: asyncio.Task[None] | None = None

    @cached_property
    def look_ups(self) -> LookUps:
        """Resolves the hosts of input images. Imported only by functions that fetch images."""
        from shared.media.look_ups import LookUps

        return LookUps()

    @cached_property
    def media(self) -> MediaStore:
        """The storage of images, opened at the first use: most functions have none. Raises StorageUnavailable."""
        images = self.settings.images
        return open_media(images.required_url(), ttl_days=images.ttl_days, keep_prompts=images.keep_prompts)

    @cached_property
    def files(self) -> Files:
        """The files that callers store, opened at the first use. Raises StorageUnavailable."""
        from shared.files.files import Files

        return Files(self.store, open_objects(self.settings.images.required_url(), FILES))

    async def refresh(self) -> None:
        """Called for each request: reads the stored configuration again if it is older than a few seconds, and applies what
        has changed. Requests in flight end as they began."""
        if self._import_due:
            self._importing = self._importing or asyncio.create_task(self._import())
            await asyncio.shield(self._importing)
        await self.live.refresh()
        self._rejections.flush()

    async def _import(self) -> None:
        # Loaded on demand: few processes have a file to import.
        from shared.configuration.importing import import_at_start

        try:
            done = await import_at_start(self.configurations, self.settings, int(unix_s() * 1000), log_problem)
            self._import_due = not done
        finally:
            self._importing = None

    def _apply(self, applied: Applied) -> None:
        settings, stored = applied.settings, applied.stored
        self.settings = self._health.settings = settings
        others_serve = self.pool.replace(
            [*environment_accounts(settings, applied.version), *stored.accounts],
            caller_limits=settings.caller_limits,
            caller_concurrency=settings.concurrency_limit,
            version=applied.version,
            out=stored.out,
            revisions=stored.revisions,
        )
        self.gateway.table = settings.models
        self.byte_budget.strangers_bytes = strangers_bytes(settings, self.byte_budget.total_bytes)
        self.kinds.reconfigure(settings.max_connections)
        self.admission.reconfigure(weights_of(settings), settings.max_connections, caller_key_connections(settings))
        self.admission.clients.reconfigure(self.pool.server)
        if others_serve:
            usable = self.pool.usable()
            self.admission.accounts_changed(usable)
            if self.cooldown is not None:
                self.cooldown.accounts_changed(usable)

    def _report_disabled(self, account_id: str, revision: int, kind: str, message: str) -> None:
        self._rejections.add(account_id, revision, OutReason.of(kind, message, int(unix_s() * 1000)))

    async def health(self) -> JsonObject:
        """The body of GET /health."""
        return await self._health.report()

    async def ledger(self) -> Ledger:
        """The server's projects as GET /health reads them, at most a few seconds old."""
        return await self._health.ledger()

    def ledger_writes(self) -> int:
        """Commits to the ledger by this process since the last call. One commit serves many requests, so only the sum over all
        log records has a meaning; it is exact."""
        written = self.admission.writes + (self.cooldown.admission.writes if self.cooldown else 0)
        new, self._writes_told = written - self._writes_told, written
        return new

    def _tracer(self, settings: Settings) -> Tracer | None:
        if settings.tracing is None:
            return None
        # OpenTelemetry is loaded only where spans are sent.
        from shared.telemetry.spans import Tracer

        return Tracer(
            settings.tracing,
            settings.version,
            settings.base_url,
            self.admission.ledger_calls,
            proxy=_proxy_of(settings, settings.tracing.url),
        )

    async def aclose(self) -> None:
        for close in self.at_close:
            await close()
        await self._return_held()
        await self._rejections.aclose()
        if self._importing is not None:
            await asyncio.gather(self._importing, return_exceptions=True)
        await self.configurations.aclose()
        if self.tracer is not None:
            await self.tracer.aclose()
        await self._close()


def _log_error(message: str) -> None:
    """Requests are still answered: with the last known configuration, or with an error that says what is wrong."""
    log_problem(message, "ERROR")


def _proxy_of(settings: Settings, url: str) -> str | None:
    """The proxy for requests to `url`, with its credential."""
    proxy = settings.proxy_for(url)
    return proxy.reveal() if proxy else None


async def accounts_desk(settings: Settings) -> Desk:
    """What `python -m shared.accounts` works with, on the running loop. Raises BadRequest, Unavailable."""
    # Loaded only by the command.
    from shared.accounts.data_key import find_data_keys, need_data_keys
    from shared.configuration.document import Configuration
    from shared.configuration.effective import effective
    from shared.configuration.stored_accounts import SecretCache, stored_accounts
    from shared.configuration.stored_proxy import readable_url
    from shared.gemini.files_api import FilesApi
    from shared.ops.account_testers import AccountTesters
    from shared.ops.accounts_desk import Desk
    from shared.ops.project_markers import merge_same_projects

    store = open_store(settings.ledger_url)
    configuration = ConfigurationStore(store)
    configured, deployed = settings.accounts.data_keys, settings.deployed
    keys = find_data_keys(configured, deployed=deployed)
    proxy = (await configuration.read()).proxy
    if proxy is not None and proxy.enabled:
        settings, _ = effective(settings, Configuration(), readable_url(proxy, keys))
    testers = AccountTesters(settings)

    async def same_projects(ids: Collection[str]) -> Found:
        stored = stored_accounts(settings, await configuration.read(), keys, SecretCache()).accounts
        accounts = [*environment_accounts(settings), *stored]
        async with FilesApi(settings.base_url, settings.proxy_for) as files:
            return await merge_same_projects(store, files, accounts, ids, Grid.of(settings.window_s).window_ms)

    async def aclose() -> None:
        await testers.aclose()
        await configuration.aclose()
        await store.aclose()

    return Desk(
        settings,
        configuration,
        store,
        keys,
        partial(need_data_keys, configured, deployed=deployed),
        testers.of,
        same_projects,
        aclose,
    )


_services: weakref.WeakKeyDictionary[AbstractEventLoop, Services] = weakref.WeakKeyDictionary()


def services() -> Services:
    """The services of this event loop, created at the first call. Raises SettingsError."""
    loop = get_running_loop()
    made = _services.get(loop)
    if made is None:
        settings = Settings.from_environment(os.environ)
        if settings.warning is not None:
            log_problem(settings.warning, "WARNING")
        made = _services[loop] = Services(settings)
        _collect_less()
    return made


def _collect_less() -> None:
    """Runs the cyclic garbage collector less often, and never over objects from before the first request.

    Measured at 32 callers: with Python's threshold of 700, collections took 0.06 ms of a request's 0.6 ms. Cycles may keep a
    large body until a collection, so `large_work` collects before each job."""
    gc.freeze()
    gc.set_threshold(MIN_OBJECTS_PER_COLLECTION, 10, 10)
