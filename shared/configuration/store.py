"""Reads and changes the stored configuration: one entry of the store, read again at most every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from shared.accounts.records import AccountRecord
from shared.clock import elapsed_s
from shared.configuration.document import Configuration, dump, parse
from shared.errors import BadRequest, GatewayError, LedgerUnavailable, Unavailable
from shared.stores.port import Change, Put, Store, StoreError

KEY = "configuration/main"
MAX_AGE_S = 5.0
READ_TIMEOUT_S = 2.0
MAX_WAIT_S = 0.5
"""How long a read waits for a newer value where an older one is known. A slow store does not delay requests further."""
RETRY_S = 5.0
"""After a failed read of a known value, the next one follows after this time."""

Changer = Callable[[Configuration], Configuration]
"""It must be pure: it runs again if somebody else has changed the configuration meanwhile. Raises GatewayError."""


class ConfigurationStore:
    """Bound to the event loop of its first call."""

    def __init__(
        self, store: Store, *, log: Callable[[str], None] | None = None, elapsed: Callable[[], float] = elapsed_s
    ) -> None:
        """`log` gets one sentence when reads begin to fail."""
        self._store, self._log, self._elapsed = store, log, elapsed
        self._known: Configuration | None = None
        self._text: bytes | None = b""
        """What was read last; empty, as no entry is, if this process wrote it."""
        self._checked_s = 0.0
        """Elapsed time of the last read, whether it succeeded or failed."""
        self._failure: Unavailable | None = None
        self._reading: asyncio.Task[None] | None = None

    async def read(self, max_age_s: float = MAX_AGE_S) -> Configuration:
        """The configuration, at most `max_age_s` old while the store can be read; concurrent calls share one read. While it
        cannot be read, the last known value. Raises LedgerUnavailable, or Unavailable for a stored configuration that is not
        valid, if none is known: what is not known is not empty."""
        known = self._known
        if known is not None and self._elapsed() - self._checked_s <= (RETRY_S if self._failure else max_age_s):
            return known
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        reading = self._reading
        await asyncio.wait((reading,), timeout=None if known is None else MAX_WAIT_S)
        if reading.done():
            reading.result()
        if self._known is None:
            assert self._failure is not None
            raise type(self._failure)(self._failure.message, retry_after_s=self._failure.retry_after_s)
        return self._known

    async def change(self, changer: Changer, expected_version: int | None = None) -> Configuration:
        """Applies `changer` to the newest configuration and returns the new version; a change that changes nothing makes no
        version. Raises StaleConfiguration if the newest one is not `expected_version`, what `changer` raises, Unavailable,
        and BadRequest if the stored configuration is not valid."""

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[Configuration | GatewayError]:
            try:
                current = _parsed(values[KEY])
                if expected_version is not None and current.version != expected_version:
                    return Change(current.stale(expected_version))
                changed = changer(current)
                if changed == current:
                    return Change(current)
                following = current.following(changed, now_ms)
                return Change(following, {KEY: Put(dump(following))})
            except GatewayError as error:
                return Change(error)

        try:
            outcome = await self._store.transact([KEY], step)
        except StoreError as error:
            raise Unavailable(
                f"The configuration was not saved, or it is not known whether it was: {error.public_message} "
                "Read it before you try again.",
                retry_after_s=1.0,
            ) from None
        if isinstance(outcome.result, GatewayError):
            raise outcome.result
        self._known, self._text = outcome.result, b""
        self._checked_s = self._elapsed()
        return outcome.result

    async def accounts(self) -> tuple[AccountRecord, ...]:
        """The stored accounts as they are now, read anew. Raises Unavailable."""
        return (await self.read(max_age_s=0.0)).accounts

    async def change_accounts(
        self,
        changer: Callable[[tuple[AccountRecord, ...]], tuple[AccountRecord, ...]],
        expected_version: int | None = None,
    ) -> tuple[AccountRecord, ...]:
        """`change` for the accounts alone."""
        changed = await self.change(
            lambda current: replace(current, accounts=changer(current.accounts)), expected_version
        )
        return changed.accounts

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        known_before = self._known
        try:
            reading = await self._store.read(KEY, timeout_s=READ_TIMEOUT_S)
            # This process's own change during the read is newer than what was read.
            if self._known is known_before and (known_before is None or reading.value != self._text):
                self._known, self._text = _parsed(reading.value), reading.value
            self._failure = None
        except StoreError as error:
            self._fail(
                LedgerUnavailable(f"The stored configuration cannot be read: {error.public_message}", retry_after_s=5)
            )
        except BadRequest as error:
            self._fail(Unavailable(f"The stored configuration is not valid: {error.message}", retry_after_s=5))
        finally:
            self._checked_s = self._elapsed()
            self._reading = None

    def _fail(self, error: Unavailable) -> None:
        if self._failure is None and self._log is not None:
            instead = (
                "The last known one stays in use." if self._known else "Requests are rejected until it can be read."
            )
            self._log(f"{error.message} {instead}")
        self._failure = error


def _parsed(value: bytes | None) -> Configuration:
    """An absent entry is the configuration of version 0, in which nothing is set. Raises BadRequest."""
    return Configuration() if value is None else parse(value)
