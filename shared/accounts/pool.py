"""Which accounts may serve a caller: the server's, or the caller's own key; and which of them are disabled.

enabled -- disable (key rejected, credits depleted) --> disabled, until the process ends
enabled -- pause (project not set up, location) ------> disabled for RESTRICTED_PAUSE_S, then enabled
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.accounts.account import OWN_LEDGER, Account
from shared.clock import elapsed_s
from shared.errors import InvalidGeminiKey, NoServerKey
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.secret import Secret

BAD_KEY_MEMORY_S = 600.0
RESTRICTED_PAUSE_S = 600.0
"""An account whose project or key is not set up is used again after this time: its owner may have fixed it, and Google needs
a few minutes after a change ("wait a few minutes for the action to propagate")."""
OUT_RETRY_S = 60.0
MAX_REASON_CHARS = 300
BAD_KEYS = 10_000
REFUSED = "Gemini rejected this API key. Check it in Google AI Studio, or send another key."


@dataclass(frozen=True, slots=True)
class _Out:
    """Why an account is disabled: the kind of the failure, Google's message, and the end (elapsed seconds)."""

    kind: str
    message: str
    until_s: float = math.inf


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
        self._out: dict[str, _Out] = {}
        self._bad: OrderedDict[str, float] = OrderedDict()
        self._consumers: dict[str, str] = {}

    @property
    def server(self) -> tuple[Account, ...]:
        return self._server

    def out(self) -> dict[str, str]:
        """The server's accounts that cannot serve now, and why (a failure's kind)."""
        return {account.id: self._out[account.id].kind for account in self._server if self.is_out(account)}

    def candidates(self, caller: Caller) -> list[Account]:
        """The accounts that may serve `caller`. Raises NoServerKey, or InvalidGeminiKey for a key that Gemini rejected in the
        last ten minutes."""
        if caller.own_key is not None:
            return [self._own(caller.own_key)]
        candidates = [account for account in self._server if not self.is_out(account)]
        if not candidates:
            raise NoServerKey(self._why_none(), retry_after_s=self.server_retry_s())
        return candidates

    def server_retry_s(self) -> float:
        """Seconds until one of the server's accounts may serve again: 0 if one may now, OUT_RETRY_S if a person has to act
        first."""
        if any(not self.is_out(account) for account in self._server):
            return 0.0
        until_s = min((self._out[account.id].until_s for account in self._server), default=math.inf)
        return OUT_RETRY_S if until_s == math.inf else max(0.0, until_s - self._elapsed())

    def _why_none(self) -> str:
        if not self._server:
            return (
                "This server has no Gemini key: set GEMINI_API_KEY (or GEMINI_API_KEY_1..N), or send your own key in "
                "credentials.gemini_api_key."
            )
        last = list(self._out.values())[-1]
        return (
            f"No Gemini key of this server is usable. Google's reason: {last.message} The server's operator has to fix this; "
            "or send your own key in credentials.gemini_api_key."
        )

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
        out = self._out.get(account.id)
        return out is not None and out.until_s > self._elapsed()

    def put_out(self, account: Account, kind: str, message: str = "") -> None:
        """Gemini will reject this credential until a person acts. A caller's key is remembered for ten minutes."""
        if not account.own_key:
            self._note(account, _Out(kind, _shortened(message)))
            return
        fingerprint = account.credential.fingerprint("ledger")
        self._bad[fingerprint] = self._elapsed() + BAD_KEY_MEMORY_S
        self._bad.move_to_end(fingerprint)
        if len(self._bad) > BAD_KEYS:
            self._bad.popitem(last=False)

    def pause(self, account: Account, kind: str, message: str) -> None:
        """Gemini rejects this account as its project or key is set up now. A caller's own key is never paused: its owner pays
        for the request, and may have fixed the key."""
        if not account.own_key and not self.is_out(account):
            self._note(account, _Out(kind, _shortened(message), self._elapsed() + RESTRICTED_PAUSE_S))

    def _note(self, account: Account, out: _Out) -> None:
        self._out.pop(account.id, None)
        self._out[account.id] = out

    # -- keys that belong to one Google project ----------------------------------------------------------------------------

    def learn_consumer(self, account: Account, consumer: str) -> None:
        """`consumer` is the Google project that an error named for this account. Nothing is kept about callers' own keys."""
        if not account.own_key:
            self._consumers[account.id] = consumer

    def same_projects(self) -> list[list[str]]:
        """For each Google project whose accounts are configured as several projects: the ids of these accounts."""
        by_consumer: dict[str, list[Account]] = {}
        for account in self._server:
            if account.id in self._consumers:
                by_consumer.setdefault(self._consumers[account.id], []).append(account)
        return [
            [account.id for account in accounts]
            for accounts in by_consumer.values()
            if len({account.ledger_id for account in accounts}) > 1
        ]


def _shortened(message: str) -> str:
    return " ".join(message.split())[:MAX_REASON_CHARS]
