"""Encrypts the secrets of the configuration that belong to no account with the current data key: the proxy's, an import's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.accounts.sealing import DataKeys, Unsealable
from shared.configuration.document import Configuration
from shared.configuration.old_program import KEPT, SEALED_AS
from shared.configuration.store import ConfigurationStore
from shared.configuration.stored_proxy import PROXY_CREDENTIAL


async def reseal_others(configuration: ConfigurationStore, keys: DataKeys) -> tuple[int, tuple[str, ...]]:
    """Returns how many were encrypted anew, and the names of those that no key opens; these stay as they are. The accounts:
    `accounts.manage.reseal`. Raises NoDataKey, Unavailable."""
    done: list[tuple[int, tuple[str, ...]]] = []

    def changer(current: Configuration) -> Configuration:
        changed, count, unreadable = resealed(current, keys)
        done.append((count, unreadable))
        return changed

    keys.require()
    await configuration.change(changer)
    return done[-1]


def resealed(current: Configuration, keys: DataKeys) -> tuple[Configuration, int, tuple[str, ...]]:
    count, unreadable = 0, []

    def anew(name: str, sealed: str) -> str:
        nonlocal count
        if not sealed or keys.is_current(sealed):
            return sealed
        try:
            plain = keys.open(name, sealed)
        except Unsealable:
            unreadable.append(name)
            return sealed
        count += 1
        return keys.seal(name, plain)

    changed = current
    if current.proxy is not None:
        changed = replace(changed, proxy=replace(current.proxy, sealed=anew(PROXY_CREDENTIAL, current.proxy.sealed)))
    kept: dict[str, Any] | None = current.unknown.get(KEPT)
    if kept is not None:
        kept = {**kept, "sealed": anew(SEALED_AS, kept["sealed"])}
        changed = replace(changed, unknown={**current.unknown, KEPT: kept})
    return changed, count, tuple(unreadable)
