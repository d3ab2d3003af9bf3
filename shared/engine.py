"""What generates on one event loop: the accounts, the ledger's client and the gateway, made from the settings. The server's
services and the library's processors are engines. Importing this module does no work, and needs no library of the server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission
from shared.admission.config import AdmissionConfig, ProcessConfig
from shared.auth.credentials import id_of
from shared.bounds.byte_budget import ByteBudget
from shared.bounds.large_work import LargeWork
from shared.bounds.memory import memory_bytes
from shared.gateway.cooldown import Cooldown
from shared.gateway.day_share import DayShare
from shared.gateway.gateway import Gateway
from shared.gemini.kinds import Addresses, Kinds
from shared.gemini.models import BATCHES_PER_MINUTE, MODELS, embedding_ids
from shared.ledger.grid import Grid
from shared.ledger.step import MIN_DEADLINE_MS
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS
from shared.settings.keys import ServerKey, account_id
from shared.settings.settings import Settings
from shared.settings.shares import caller_key_connections, shares_day, strangers_bytes
from shared.stores.url import open_store

if TYPE_CHECKING:
    from shared.secret import Secret
    from shared.stores.port import Liveness, Store


MIN_BUDGET_BYTES, MAX_BUDGET_BYTES = 48 << 20, 1 << 30
LINGER_S = 1.0
"""Processes of one machine keep their CPU between requests, and a process that ends is noticed, so unused permits may be held
for the next request for this long."""


class Engine:
    """Bound to one event loop."""

    def __init__(self, settings: Settings, accounts: Sequence[Account], *, signatures_ms: int) -> None:
        self.settings = settings
        self.byte_budget = budget_of(settings)
        self.large_work = LargeWork()
        self.store: Store = open_store(settings.ledger_url)
        liveness = cast("Liveness", self.store) if hasattr(self.store, "gone") else None
        self.pool = Pool(
            accounts,
            caller_limits=settings.caller_limits,
            caller_concurrency=settings.concurrency_limit,
        )
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
            signatures_ms=signatures_ms,
            uploads=lambda: self.kinds.file_uploads,
        )

    async def aclose(self) -> None:
        await self._return_held()
        await self._close()

    async def _return_held(self) -> None:
        """Rejects waiting requests and returns what is held of the ledgers."""
        await self.gateway.merges.aclose()
        await self.admission.aclose()
        if self.cooldown is not None:
            await self.cooldown.admission.aclose()

    async def _close(self) -> None:
        await self.kinds.aclose()
        self.large_work.close()
        await self.store.aclose()

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
