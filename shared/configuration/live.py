"""The configuration that a process works with: read again on the request path, and applied when its version changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from shared.accounts.data_key import find_data_keys
from shared.accounts.manage import readable
from shared.accounts.records import AccountRecord
from shared.accounts.sealing import DataKeys, Unsealable
from shared.configuration.document import Configuration
from shared.configuration.effective import effective
from shared.configuration.store import MAX_AGE_S, ConfigurationStore
from shared.configuration.stored_accounts import SecretCache, StoredAccounts, ledger_id_of, stored_accounts
from shared.configuration.stored_proxy import url_of
from shared.errors import BadRequest, GatewayError, Unavailable
from shared.secret import Secret
from shared.settings.settings import Settings

UNUSED_AGE_S = 60.0
"""The age at which a deployed process without a data key reads again while nothing was ever stored: a deployment that uses only
the environment pays for one read a minute, not for twelve."""
_KEYRING_S = 10.0


class Applied(NamedTuple):
    """What holds from now on. `configured`: whether a configuration is stored."""

    settings: Settings
    stored: StoredAccounts
    version: int


class LiveConfiguration:
    """Bound to one event loop."""

    def __init__(
        self,
        settings: Settings,
        store: ConfigurationStore,
        *,
        apply: Callable[[Applied], None],
        hold: Callable[[GatewayError], None],
        log: Callable[[str], None],
    ) -> None:
        """`settings` are the environment's. `apply` gets each version that differs from the last one; `hold` gets an error for
        every request while nothing is known that could be applied."""
        self._settings, self._store = settings, store
        self._apply, self._hold, self._log = apply, hold, log
        self._keys = DataKeys(settings.accounts.data_keys)
        self._asked_keyring = bool(self._keys) or settings.deployed
        self._cache = SecretCache()
        self._seen: Configuration | None = None
        self._turn = asyncio.Lock()
        self._applied = False
        self._max_age_s = UNUSED_AGE_S if settings.deployed and not self._keys else MAX_AGE_S

    @property
    def records(self) -> tuple[AccountRecord, ...]:
        """The stored accounts, as they were read last."""
        return self._seen.accounts if self._seen is not None else ()

    def ledger_of(self, record: AccountRecord) -> str | None:
        """The ledger of the record's project; None where the record does not name it and its secret cannot be read."""
        secret = readable(self._keys, record)
        return record.ledger_id if secret is None else ledger_id_of(record, secret)

    async def refresh(self) -> None:
        """Reads the configuration if it is older than a few seconds, and applies a new version. Never raises for a store that
        fails: what was known stays, and what is unknown is held."""
        try:
            configuration = await self._store.read(self._max_age_s)
        except Unavailable as error:
            self._hold(error)
            return
        if configuration is not self._seen:
            async with self._turn:
                if configuration is not self._seen:
                    await self._adopt(configuration)

    async def _adopt(self, configuration: Configuration) -> None:
        if not self._asked_keyring and configuration.accounts:
            self._asked_keyring = True
            self._keys = await self._from_keyring()
        if configuration.version:
            self._max_age_s = MAX_AGE_S
        self._seen = configuration
        try:
            settings, _ = effective(self._settings, configuration, self._proxy(configuration))
        except (BadRequest, Unsealable) as error:
            sentence = error.message if isinstance(error, BadRequest) else f"The proxy cannot be used: {error}"
            self._log(f"Version {configuration.version} of the stored configuration is not applied. {sentence}")
            if not self._applied:
                self._hold(
                    Unavailable("The stored configuration cannot be used; the server's log says why.", retry_after_s=5)
                )
            return
        stored = stored_accounts(settings, configuration, self._keys, self._cache)
        if not self._keys and configuration.accounts and not settings.reported_projects:
            self._log(
                f"{len(configuration.accounts)} stored accounts are not used, because there is no data key: "
                "set ACCOUNTS_DATA_KEY."
            )
        self._applied = True
        self._apply(Applied(settings.with_stored_accounts(len(stored.accounts)), stored, configuration.version))

    async def _from_keyring(self) -> DataKeys:
        configured = self._settings.accounts.data_keys
        try:
            # A keyring may ask its user.
            finding = asyncio.to_thread(find_data_keys, configured, deployed=self._settings.deployed)
            return await asyncio.wait_for(finding, _KEYRING_S)
        except TimeoutError:
            return self._keys

    def _proxy(self, configuration: Configuration) -> Secret | None:
        """Raises Unsealable."""
        proxy = configuration.proxy
        if proxy is None or not proxy.enabled:
            return None
        return url_of(proxy, self._keys)
