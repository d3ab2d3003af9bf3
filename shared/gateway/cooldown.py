"""KEY_COOLDOWN_SECONDS: an account rests after each dispatch, over all processes.

An account's cooldown is a ledger of its own with one concurrency slot. A request takes the slot, then a permit of the account's
project; once it is written, the slot stays taken for the cooldown, also when the process stops or ends. So requests wait in one
fair queue, and the account whose slot is free first serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.accounts.account import COOLDOWN_LEDGER, Account
from shared.admission.admission import Admission
from shared.admission.permit import Permit
from shared.admission.queue import AccountsChanged
from shared.clock import elapsed_s
from shared.generation import Caller, Cost
from shared.ledger.limits import UNLIMITED
from shared.secret import Secret

_SECTION = "dispatches"


class Turn:
    """The right to dispatch one request on `account`. Call `check` right before the first byte, `sent` after the last one, and
    `close` at the end."""

    def __init__(self, cooldown: Cooldown, account: Account, permit: Permit) -> None:
        self.account, self.permit, self._cooldown = account, permit, cooldown
        self._rests = False

    def check(self) -> None:
        """Raises PermitLapsed if another request may have the account by now."""
        self.permit.check()

    def sent(self) -> None:
        """The account rests from now on."""
        if not self._rests:
            self._rests = True
            self.permit.end_later(self._cooldown.rest_s)
            self._cooldown.note(self.account)

    async def close(self) -> None:
        if self.permit.dispatched:
            self.sent()
            await self._cooldown.admission.settle_idle(self.permit.waiter)
        else:
            await self.permit.close()


class Cooldown:
    """Bound to one event loop. The deadlines of `admission` allow for the cooldown."""

    def __init__(self, admission: Admission, rest_s: float) -> None:
        self.admission, self.rest_s = admission, rest_s
        self._rests_until_s: dict[str, float] = {}
        """Accounts on which this process dispatched lately (elapsed time)."""

    def note(self, account: Account) -> None:
        now_s = elapsed_s()
        self._rests_until_s = {name: end_s for name, end_s in self._rests_until_s.items() if end_s > now_s}
        self._rests_until_s[account.id] = now_s + self.rest_s

    def accounts_changed(self, usable: Iterable[Account]) -> None:
        """Requests that wait for an account to rest choose anew among the server's accounts, of which `usable` may serve now."""
        self.admission.accounts_changed([_place_of(account) for account in usable])

    async def acquire(
        self,
        accounts: Sequence[Account],
        deadline_s: float,
        until_s: float,
        caller: Caller,
        *,
        batch: bool,
        again: Permit | AccountsChanged | None = None,
    ) -> Turn:
        """Wait until one of `accounts` has rested, at most until `until_s`. `again`: a permit that was not used, or the error by
        which a wait ended; its place in the queue is kept. Raises what `Admission.acquire` raises."""
        now_s = elapsed_s()
        rested = [account for account in accounts if self._rests_until_s.get(account.id, 0.0) <= now_s] or accounts
        by_id = {account.id: account for account in rested}
        permit = await self.admission.acquire(
            [_place_of(account) for account in rested],
            _SECTION,
            Cost(1),
            # An instance that dies keeps the slot until a request that it dispatched last has rested too.
            deadline_s + self.rest_s,
            caller,
            batch=batch,
            again=again,
            patient_until_s=min(deadline_s, until_s),
        )
        return Turn(self, by_id[permit.account.id], permit)


def _place_of(account: Account) -> Account:
    return Account(account.id, COOLDOWN_LEDGER + account.id, Secret(""), 1, UNLIMITED)
