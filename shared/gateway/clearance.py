"""What one request needs besides its project's permit: the circuit of the server's address, its account's cooldown, and its turn
among requests that keep a pace."""

from __future__ import annotations

from collections.abc import Sequence

from shared.accounts.account import Account
from shared.admission.permit import Permit, PermitLapsed
from shared.admission.queue import AccountsChanged
from shared.clock import elapsed_s
from shared.gateway.address_circuit import AddressCircuit, Passage
from shared.gateway.cooldown import Cooldown, Turn
from shared.generation import Generation


class Clearance:
    """For each exchange, in this order: `wait`, `confirm` with the permit, `check`, `dispatch` and `sent` at the socket,
    `give_back`."""

    def __init__(
        self, address: AddressCircuit, cooldown: Cooldown | None, generation: Generation, queue_timeout_s: float
    ) -> None:
        self._address, self._cooldown, self._generation, self._pace = address, cooldown, generation, generation.pace
        self._queue_timeout_s = queue_timeout_s
        self._until_s = 0.0
        """Until when the request may wait here, from its first wait on; 0 before."""
        self._passage = Passage(guest=generation.caller.kind == "caller_key")
        self._turn: Turn | None = None
        self._unused: Permit | AccountsChanged | None = None
        """The permit of a turn that was not used, or the error by which a wait for one ended: the place in the queue is kept."""

    def needs_waiting(self) -> bool:
        return self._address.is_open or self._cooldown is not None

    async def wait(self, accounts: Sequence[Account], patient_until_s: float | None) -> list[Account]:
        """The accounts of `accounts` that may serve now. Raises GatewayError at the request's deadline, or when
        QUEUE_TIMEOUT_SECONDS are over, which `patient_until_s` (elapsed time) replaces if it is given; AccountsChanged when other
        accounts may serve than before."""
        if not self._until_s:
            longest_s = elapsed_s() + self._queue_timeout_s if patient_until_s is None else patient_until_s
            self._until_s = min(self._generation.deadline_s, longest_s)
        if self._turn is not None:
            await self.close()  # The last wait led to no exchange.
        await self._address.enter(self._passage, self._until_s)
        if self._cooldown is None or any(account.caller_key for account in accounts):
            return list(accounts)
        made = self._generation
        try:
            self._turn = await self._cooldown.acquire(
                accounts,
                made.deadline_s,
                self._until_s,
                made.caller,
                batch=made.priority == "batch",
                again=self._unused,
            )
        except AccountsChanged as changed:
            self._unused = changed
            raise
        self._unused = None
        return [self._turn.account]

    async def confirm(self, permit: Permit) -> bool:
        """Whether the request, which has its permit now, may be sent; else the permit is given back."""
        confirmed = False
        try:
            confirmed = await self._address.pass_with_permit(self._passage)
            if confirmed and self._pace is not None:
                confirmed = False  # If the wait is cancelled.
                await self._pace.take_turn()
                confirmed = True
        finally:
            if not confirmed:
                await self.give_back(permit)
        return confirmed

    def check(self) -> None:
        """Raises PermitLapsed if the request may not be sent at this moment."""
        if self._address.stops(self._passage):
            raise PermitLapsed
        if self._turn is not None:
            self._turn.check()

    def dispatch(self) -> None:
        """The first byte is written now."""
        if self._pace is not None:
            self._pace.dispatch()

    def sent(self) -> None:
        if self._turn is not None:
            self._turn.sent()
        if self._pace is not None:
            self._pace.leave()

    async def give_back(self, permit: Permit, input_tokens: int | None = None, *, cancelled: bool = False) -> None:
        """Close the permit of an exchange that is over, or does not take place, and this."""
        try:
            await permit.close(input_tokens, cancelled=cancelled)
        finally:
            await self.close()

    async def close(self) -> None:
        """The exchange is over, or does not take place. Returns when the store knows what was learned from it."""
        self._address.leave(self._passage)
        if self._pace is not None:
            self._pace.leave()
        turn, self._turn = self._turn, None
        try:
            if turn is not None:
                if not turn.permit.dispatched:
                    self._unused = turn.permit
                await turn.close()
            elif self._cooldown is not None and isinstance(self._unused, AccountsChanged):
                await self._cooldown.admission.settle_idle(self._unused.waiter)
        finally:
            await self._address.settle()
