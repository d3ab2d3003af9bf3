"""The project clients of one process, by ledger, and which ledgers were merged into others."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from shared.accounts.account import Account
from shared.admission.project import ProjectClient

MAX_CALLER_KEY_PROJECTS = 1_000


@lru_cache(maxsize=4 * MAX_CALLER_KEY_PROJECTS)
def _rank(instance: str, ledger: str) -> bytes:
    return hashlib.blake2b(f"{instance}{ledger}".encode()).digest()


class Clients:
    """`make(account, moved)` creates a client, which calls `moved(client, closed, survivor)` when its ledger was merged."""

    def __init__(self, make: Callable[[Account, Callable[[ProjectClient, str, str], None]], ProjectClient]) -> None:
        self._make = make
        self.by_ledger: OrderedDict[str, ProjectClient] = OrderedDict()
        """A client whose ledger was merged into that of another client keeps its entry: it serves what waits there."""
        self._moved: dict[str, str] = {}
        """By ledger that was closed: the one that it was merged into."""

    @property
    def merges(self) -> int:
        """How many merges this process knows."""
        return len(self._moved)

    def current(self, ledger: str) -> str:
        """The ledger that `ledger` was merged into, or `ledger` itself, as far as this process knows."""
        while ledger in self._moved:
            ledger = self._moved[ledger]
        return ledger

    def ledger_of(self, account: Account) -> str:
        """The ledger that counts the account's requests, as far as this process knows."""
        return self.current(account.ledger_id)

    def learn(self, moved: Mapping[str, str]) -> None:
        """`moved`: by ledger that was closed, the one that it was merged into. A ledger's own client finds that out by itself."""
        self._moved.update({closed: survivor for closed, survivor in moved.items() if closed not in self.by_ledger})

    def known(self, account: Account) -> ProjectClient | None:
        """The client of the account's project; None if there was no request for it yet."""
        return self.by_ledger.get(self.ledger_of(account))

    def of(self, account: Account) -> ProjectClient:
        """The client of the account's project, which is created if there is none; it uses the newest limits that it is shown."""
        ledger = self.ledger_of(account)
        client = self.by_ledger.get(ledger)
        if client is None:
            self._forget_idle()
            client = self._make(replace(account, ledger_id=ledger), self._follow)
            self.by_ledger[ledger] = client
        elif account.ephemeral:
            self.by_ledger.move_to_end(ledger)
        if account.limits_version > client.account.limits_version:
            client.reconfigure(account)
        return client

    def ranked(self, accounts: Sequence[Account], instance: str) -> list[ProjectClient]:
        """The accounts' projects in the order of a rendezvous hash: instances start with different ones."""
        if len(accounts) == 1:
            return [self.of(accounts[0])]
        by_ledger = {self.ledger_of(account): account for account in accounts}
        return [self.of(by_ledger[ledger]) for ledger in sorted(by_ledger, key=partial(_rank, instance))]

    def accounts_of(self, client: ProjectClient, accounts: Iterable[Account]) -> list[Account]:
        """Those of `accounts` for whose requests permits of `client` may be used."""
        ledger = self.ledger_of(client.account)
        return [account for account in accounts if self.ledger_of(account) == ledger]

    def reconfigure(self, accounts: Iterable[Account]) -> None:
        """Use the limits of `accounts` where they are from a newer configuration, also for requests that wait."""
        given = list(accounts)
        for client in list(self.by_ledger.values()):
            for account in self.accounts_of(client, given):
                if account.limits_version > client.account.limits_version:
                    client.reconfigure(account)

    def _follow(self, client: ProjectClient, closed: str, survivor: str) -> None:
        """The client found its ledger closed. Where this process has no client of the survivor yet, it becomes that one."""
        self._moved[closed] = survivor
        if survivor not in self.by_ledger and self.by_ledger.get(closed) is client:
            del self.by_ledger[closed]
            self.by_ledger[survivor] = client

    def _forget_idle(self) -> None:
        """Make room for one project. Projects in use stay: a second client of a ledger would spend what the first one holds."""
        if len(self.by_ledger) >= MAX_CALLER_KEY_PROJECTS:
            for ledger, client in list(self.by_ledger.items()):
                if client.account.ephemeral and client.unused():
                    del self.by_ledger[ledger]
                    return
