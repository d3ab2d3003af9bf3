"""The wiring: the only module that names concrete adapters. Importing it does no work; a worker calls `services()`."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.accounts.records import OutReason
from shared.admission.admission import Admission
from shared.admission.config import AdmissionConfig, ProcessConfig
from shared.auth.admin_guesses import AdminGuesses
from shared.auth.caller_rate import CallerRate
from shared.auth.credentials import id_of
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.bounds.memory import memory_bytes
from shared.clock import unix_s
from shared.configuration.live import Applied, LiveConfiguration
from shared.configuration.rejections import Rejections
from shared.configuration.store import ConfigurationStore
from shared.gateway.cooldown import Cooldown
from shared.gateway.day_share import DayShare
from shared.gateway.gateway import Gateway
from shared.gemini.kinds import Addresses, Kinds
from shared.gemini.models import BATCHES_PER_MINUTE, MODELS, embedding_ids
from shared.generation import JsonObject
from shared.ledger.grid import Grid
from shared.ledger.step import MIN_DEADLINE_MS
from shared.media.port import FILES
from shared.media.url import open_media, open_objects
from shared.ops.health import Health, Ledger
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS, file_to_import
from shared.settings.keys import ServerKey, account_id
from shared.settings.settings import Settings
from shared.settings.shares import (
    UPLOAD_WINDOW_S,
    caller_key_connections,
    fetch_limit,
    shares_day,
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
    from shared.secret import Secret
    from shared.stores.port import Liveness, Store
    from shared.telemetry.spans import Tracer


MIN_OBJECTS_PER_COLLECTION = 10_000
MIN_BUDGET_BYTES, MAX_BUDGET_BYTES = 48 << 20, 1 << 30
LINGER_S = 1.0
"""Processes of one machine keep their CPU between requests, and a process that ends is noticed, so unused permits may be held
for the next request for this long."""


class Services:
    """The services that all functions of one process share, on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        """The environment's, with the defaults of the stored configuration as of the last `refresh`."""
        self.byte_budget = budget_of(settings)
        self.large_work = LargeWork()
        self.store: Store = open_store(settings.ledger_url)
        liveness = cast("Liveness", self.store) if hasattr(self.store, "gone") else None
        self.pool = Pool(
            environment_accounts(settings),
            caller_limits=settings.caller_limits,
            caller_concurrency=settings.concurrency_limit,
        )
        self.configurations = ConfigurationStore(self.store, log=_log_error)
        self.live = LiveConfiguration(
            settings, self.configurations, apply=self._apply, hold=self.pool.hold, log=_log_error
        )
        self._rejections = Rejections(self.configurations)
        self.pool.on_disabled = self._report_disabled
        self.admission = _admission(settings, self.store, liveness)
        self.cooldown = _cooldown(settings, self.store)
        self.kinds = self._kinds(settings)
        self.gateway = Gateway(
            self.pool,
            self.admission,
            self.kinds.upstreams,
            request_timeout_s=settings.request_timeout_s,
            cooldown=self.cooldown,
            day_share=DayShare(self.store, self.admission) if shares_day(settings) else None,
            byte_budget=self.byte_budget,
            large_work=self.large_work,
            signatures_ms=settings.session_ttl_hours * 3_600_000,
            uploads=lambda: self.kinds.file_uploads,
        )
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

    def _kinds(self, settings: Settings) -> Kinds:
        accounts = settings.accounts
        return Kinds(
            Addresses(
                settings.base_url,
                accounts.vertex_base_url,
                accounts.oauth_token_url,
                accounts.enterprise_base_url,
                accounts.enterprise_session_base_url,
            ),
            max_connections=settings.max_connections,
            proxy_for=self._proxy_for,
            large_work=self.large_work,
            why_no_sessions=None if accounts.allow_session_accounts else WHY_NO_SESSION_ACCOUNTS,
        )

    def _proxy_for(self, url: str) -> Secret | None:
        """By the settings of the time of the call, which `refresh` may have changed."""
        return self.settings.proxy_for(url)

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
        await self.gateway.merges.aclose()
        await self.admission.aclose()
        await self._rejections.aclose()
        if self._importing is not None:
            await asyncio.gather(self._importing, return_exceptions=True)
        await self.configurations.aclose()
        if self.cooldown is not None:
            await self.cooldown.admission.aclose()
        if self.tracer is not None:
            await self.tracer.aclose()
        await self.kinds.aclose()
        self.large_work.close()
        await self.store.aclose()


def _log_error(message: str) -> None:
    """Requests are still answered: with the last known configuration, or with an error that says what is wrong."""
    log_problem(message, "ERROR")


def budget_of(settings: Settings) -> ByteBudget:
    """QUEUE_MAX_MB, else a sixth of the process's memory. A body takes up to twice its bytes in memory while its request waits
    for Gemini; the process itself and the one body that is being parsed take the rest (measured with 512 MiB)."""
    total = settings.queue_max_bytes
    if total is None:
        total = min(max(memory_bytes() // (6 * settings.workers), MIN_BUDGET_BYTES), MAX_BUDGET_BYTES)
    return ByteBudget(total, strangers_bytes=strangers_bytes(settings, total))


def _admission(settings: Settings, store: Store, liveness: Liveness | None) -> Admission:
    return Admission(
        store,
        ProcessConfig(
            instance=secrets.token_hex(16),
            grid=Grid.of(settings.window_s),
            tau_s=max(MIN_DEADLINE_MS / 1000, settings.request_timeout_s),
            lease_s=settings.lease_s,
            linger_s=LINGER_S if liveness else 0.0,
            holds_on=liveness is None,
            cancels=settings.cancels,
            exhaustion=settings.accounts.exhaustion,
            known=frozenset([*MODELS, *settings.model_limits, *filter(None, [settings.model_override])]),
            batches=dict.fromkeys(embedding_ids(settings.models), BATCHES_PER_MINUTE),
        ),
        AdmissionConfig(
            settings.queue_timeout_s,
            weights_of(settings),
            settings.max_connections,
            caller_key_connections(settings),
        ),
        liveness,
    )


def _cooldown(settings: Settings, store: Store) -> Cooldown | None:
    """None where accounts do not rest. It gets no `Liveness`: an account also rests when the process that used it has ended."""
    rest_s = settings.accounts.key_cooldown_s
    if not rest_s:
        return None
    tau_s = max(MIN_DEADLINE_MS / 1000, settings.request_timeout_s) + rest_s
    process = ProcessConfig(secrets.token_hex(16), Grid.of(settings.window_s), tau_s, settings.lease_s)
    return Cooldown(Admission(store, process, AdmissionConfig(settings.queue_timeout_s)), rest_s)


def _proxy_of(settings: Settings, url: str) -> str | None:
    """The proxy for requests to `url`, with its credential."""
    proxy = settings.proxy_for(url)
    return proxy.reveal() if proxy else None


def weights_of(settings: Settings) -> dict[str, float]:
    return {id_of(caller): weight for caller, weight in settings.caller_weights.items()}


def environment_accounts(settings: Settings, version: int = 0) -> list[Account]:
    """`version`: of the stored configuration that the limits are from."""
    return [account_of(key, settings, version) for key in settings.server_keys]


def account_of(key: ServerKey, settings: Settings, version: int = 0) -> Account:
    return Account(
        id=account_id(key.source),
        ledger_id=key.project,
        credential=key.secret,
        concurrency=settings.concurrency_limit,
        limits=settings.limits,
        model_limits=settings.model_limits,
        limits_version=version,
    )


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
