"""Which accounts may serve a caller: the server's own, or the one that the caller brought; and which of them are out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from shared.accounts.account import OWN_LEDGER, Account
from shared.clock import elapsed_s
from shared.errors import InvalidGeminiKey, NoServerKey
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.secret import Secret

BAD_KEY_MEMORY_S = 600.0
BAD_KEYS = 10_000
REFUSED = "Gemini refused this API key. Check it in Google AI Studio, or send another one."


class Pool:
    """The server's accounts, and the callers' own keys as accounts of their own."""

    def __init__(
        self,
        server: Sequence[Account],
        *,
        caller_limits: Limits,
        caller_concurrency: int,
        elapsed: Callable[[], float] = elapsed_s,
    ) -> None:
        self._server = tuple(server)
        self._by_key: Mapping[Secret, Account] = {account.credential: account for account in server}
        self._caller_limits, self._caller_concurrency = caller_limits, caller_concurrency
        self._elapsed = elapsed
        self._out: dict[str, str] = {}
        self._bad: OrderedDict[str, float] = OrderedDict()

    @property
    def server(self) -> tuple[Account, ...]:
        return self._server

    def out(self) -> dict[str, str]:
        """Accounts that are out until a person acts, and why."""
        return dict(self._out)

    def candidates(self, caller: Caller) -> list[Account]:
        """Raises NoServerKey, or InvalidGeminiKey for a key that Gemini refused lately."""
        if caller.own_key is not None:
            return [self._own(caller.own_key)]
        candidates = [account for account in self._server if account.id not in self._out]
        if not candidates:
            raise NoServerKey(
                "No Gemini key of this server can serve: set GEMINI_API_KEY (or GEMINI_API_KEY_1..N), or replace the "
                "keys that Gemini refused; or send your own key in credentials.gemini_api_key.",
                retry_after_s=60,
            )
        return candidates

    def _own(self, key: Secret) -> Account:
        known = self._by_key.get(key)
        fingerprint = key.fingerprint("ledger")
        account = Account(
            id=f"own-{fingerprint[:12]}",
            ledger_id=known.ledger_id if known else f"{OWN_LEDGER}{fingerprint}",
            credential=key,
            concurrency=known.concurrency if known else self._caller_concurrency,
            limits=known.limits if known else self._caller_limits,
            model_limits=known.model_limits if known else {},
            own_key=True,
        )
        if self.is_out(account):
            raise InvalidGeminiKey(REFUSED)
        return account

    def is_out(self, account: Account) -> bool:
        if account.own_key:
            return self._bad.get(account.credential.fingerprint("ledger"), 0.0) > self._elapsed()
        return account.id in self._out

    def put_out(self, account: Account, reason: str) -> None:
        """Gemini will refuse this credential until a person acts. A caller's key is forgotten after ten minutes."""
        if not account.own_key:
            self._out[account.id] = reason
            return
        fingerprint = account.credential.fingerprint("ledger")
        self._bad[fingerprint] = self._elapsed() + BAD_KEY_MEMORY_S
        self._bad.move_to_end(fingerprint)
        if len(self._bad) > BAD_KEYS:
            self._bad.popitem(last=False)
