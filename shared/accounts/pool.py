"""Which accounts may serve a caller: the server's, or the caller's own key; and which of them are disabled.

enabled -- disable (key rejected, credits depleted) --> disabled, until the process ends; a stored account until the operator
                                                        enables it or replaces its secret (`replace`)
enabled -- pause (project not set up, location) ------> disabled for RESTRICTED_PAUSE_S, then enabled
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.accounts.account import OWN_LEDGER, Account
from shared.accounts.records import OutReason
from shared.clock import elapsed_s
from shared.errors import GatewayError, InvalidGeminiKey, NoServerKey
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.secret import Secret

REJECTED_KEY_MEMORY_S = 600.0
RESTRICTED_PAUSE_S = 600.0
"""An account whose project or key is not set up is used again after this time: its owner may have fixed it, and Google needs
a few minutes after a change ("wait a few minutes for the action to propagate")."""
DISABLED_RETRY_S = 60.0
MAX_REASON_CHARS = 300
SEALED = "sealed"
"""The kind of the reason of a stored account whose secret this process cannot decrypt."""
MAX_REJECTED_KEYS = 10_000
REJECTED = "Gemini rejected this API key. Check it in Google AI Studio, or send another key."


@dataclass(frozen=True, slots=True)
class _Disabled:
    """Why an account is disabled: the kind of the failure, Google's message, and the end (elapsed seconds)."""

    kind: str
    message: str
    until_s: float = math.inf


_NEVER = _Disabled("", "", -math.inf)


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
        self._elapsed = elapsed
        self._server: tuple[Account, ...] = ()
        self._disabled: dict[str, _Disabled] = {}
        self._rejected: OrderedDict[str, tuple[float, int | None]] = OrderedDict()
        """By fingerprint of a caller's key: until when it is remembered (elapsed seconds), and the status of the rejection."""
        self._consumers: dict[str, str] = {}
        self._revisions: Mapping[str, int] = {}
        self._held: GatewayError | None = None
        self.on_disabled: Callable[[str, int, str, str], None] | None = None
        """Called when Gemini rejects a stored account: its id, the revision of its record, the kind of the failure, Google's
        message."""
        self.replace(server, caller_limits=caller_limits, caller_concurrency=caller_concurrency)

    def replace(
        self,
        server: Sequence[Account],
        *,
        caller_limits: Limits,
        caller_concurrency: int,
        version: int = 0,
        out: Mapping[str, OutReason] | None = None,
        revisions: Mapping[str, int] | None = None,
    ) -> bool:
        """`server` are the accounts from now on, of the configuration's `version`. `revisions` has the stored ones among them,
        and `out` those that are out by their records. What this process itself found out about an account of the same revision
        stays. Returns whether others may serve now than before."""
        out, revisions = out or {}, revisions or {}
        usable = self._usable()
        accounts = {account.id: account for account in server}
        for account_id in list(self._disabled):
            if account_id not in accounts or revisions.get(account_id) != self._revisions.get(account_id):
                del self._disabled[account_id]
        for account_id, reason in out.items():
            if self._disabled.get(account_id, _NEVER).until_s != math.inf:
                self._disabled[account_id] = _Disabled(reason.kind, reason.message)
        self._consumers = {name: consumer for name, consumer in self._consumers.items() if name in accounts}
        self._server, self._accounts, self._revisions = tuple(server), accounts, revisions
        self._by_key: Mapping[Secret, Account] = {
            account.credential: account for account in server if account.kind == "api_key" and account.credential
        }
        self._caller_limits, self._caller_concurrency, self._version = caller_limits, caller_concurrency, version
        self._held = None
        return self._usable() != usable

    def hold(self, error: GatewayError) -> None:
        """Rejects every request with `error` until `replace`: which accounts there are, and their limits, is not known."""
        self._held = error

    def _usable(self) -> list[tuple[str, str, Secret]]:
        return [
            (account.id, account.ledger_id, account.credential)
            for account in self._server
            if not self._is_out(account.id)
        ]

    @property
    def server(self) -> tuple[Account, ...]:
        return self._server

    def usable(self) -> list[Account]:
        """The server's accounts that may serve now."""
        if not self._disabled:
            return list(self._server)
        return [account for account in self._server if not self._is_out(account.id)]

    def disabled(self) -> dict[str, str]:
        """The server's accounts that cannot serve now, and why (a failure's kind)."""
        return {account.id: self._disabled[account.id].kind for account in self._server if self.is_disabled(account)}

    def candidates(self, caller: Caller) -> list[Account]:
        """The accounts that may serve `caller`. Raises NoServerKey, or InvalidGeminiKey for a key that Gemini rejected in the
        last ten minutes; the error of `hold` while it lasts."""
        if self._held is not None:
            # A new one: an error collects the traceback of each place that it is raised at.
            raise type(self._held)(self._held.message, retry_after_s=self._held.retry_after_s)
        if caller.caller_key is not None:
            return [self._own(caller.caller_key)]
        candidates = self.usable()
        if not candidates:
            raise NoServerKey(self._why_none(), retry_after_s=self.server_retry_s())
        return candidates

    def server_retry_s(self) -> float:
        """Seconds until one of the server's accounts may serve again: 0 if one may now, DISABLED_RETRY_S if a person has to act
        first."""
        if any(not self._is_out(account.id) for account in self._server):
            return 0.0
        until_s = min((self._disabled[account.id].until_s for account in self._server), default=math.inf)
        return DISABLED_RETRY_S if until_s == math.inf else max(0.0, until_s - self._elapsed())

    def why_out(self, accounts: Sequence[Account]) -> tuple[str, float]:
        """Google's reason for the latest of these disabled accounts, and the seconds until one of them may serve again."""
        entries = [entry for account in accounts if (entry := self._disabled.get(account.id)) is not None]
        until_s = min((entry.until_s for entry in entries), default=math.inf)
        retry_s = DISABLED_RETRY_S if until_s == math.inf else max(0.0, until_s - self._elapsed())
        return entries[-1].message if entries else "unknown.", retry_s

    def _why_none(self) -> str:
        if not self._server:
            return (
                "This server has no Gemini key: set GEMINI_API_KEY (or GEMINI_API_KEY_1..N), enable a stored account, or send "
                "your own key in credentials.gemini_api_key."
            )
        last = list(self._disabled.values())[-1]
        whose = "Reason" if last.kind == SEALED else "Google's reason"
        return (
            f"No Gemini key of this server is usable. {whose}: {last.message} The server's operator has to fix this; "
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
            caller_key=True,
            limits_version=known.limits_version if known else self._version,
        )
        if self.is_disabled(account):
            status = self._rejected[fingerprint][1]
            raise InvalidGeminiKey(REJECTED, details=None if status is None else {"upstream_status": status})
        return account

    def is_disabled(self, account: Account) -> bool:
        if account.caller_key:
            return self._rejected.get(account.credential.fingerprint("ledger"), (0.0, None))[0] > self._elapsed()
        current = self._accounts.get(account.id)
        if current is not account and (current is None or not _same(current, account)):
            return True  # The operator removed it, replaced its secret, or assigned another project.
        return self._is_out(account.id)

    def _is_out(self, account_id: str) -> bool:
        entry = self._disabled.get(account_id)
        return entry is not None and entry.until_s > self._elapsed()

    def disable(self, account: Account, kind: str, message: str = "", status: int | None = None) -> None:
        """Gemini will reject this credential until a person acts. A caller's key is remembered for ten minutes, with the status
        of Gemini's rejection."""
        if not account.caller_key:
            current = self._accounts.get(account.id)
            if current is None or current.credential != account.credential:
                return  # The request began before the operator replaced the secret.
            first = self._disabled.get(account.id, _NEVER).until_s != math.inf
            self._note(account, _Disabled(kind, _shortened(message)))
            if first and self.on_disabled is not None and account.id in self._revisions:
                self.on_disabled(account.id, self._revisions[account.id], kind, message)
            return
        fingerprint = account.credential.fingerprint("ledger")
        self._rejected[fingerprint] = (self._elapsed() + REJECTED_KEY_MEMORY_S, status)
        self._rejected.move_to_end(fingerprint)
        if len(self._rejected) > MAX_REJECTED_KEYS:
            self._rejected.popitem(last=False)

    def pause(self, account: Account, kind: str, message: str) -> None:
        """Gemini rejects this account as its project or key is set up now. A caller's own key is never paused: its owner pays
        for the request, and may have fixed the key."""
        if not account.caller_key and not self.is_disabled(account):
            self._note(account, _Disabled(kind, _shortened(message), self._elapsed() + RESTRICTED_PAUSE_S))

    def _note(self, account: Account, entry: _Disabled) -> None:
        self._disabled.pop(account.id, None)
        self._disabled[account.id] = entry

    # -- keys that belong to one Google project ----------------------------------------------------------------------------

    def learn_consumer(self, account: Account, consumer: str) -> None:
        """`consumer` is the Google project that an error named for this account. Nothing is kept about callers' own keys."""
        if not account.caller_key:
            self._consumers[account.id] = consumer

    def same_projects(self) -> list[list[str]]:
        """For each Google project whose accounts are configured as several projects: the ids of these accounts. Accounts of two
        kinds have quotas of their own."""
        by_consumer: dict[tuple[str, str], list[Account]] = {}
        for account in self._server:
            if account.id in self._consumers:
                by_consumer.setdefault((account.kind, self._consumers[account.id]), []).append(account)
        return [
            [account.id for account in accounts]
            for accounts in by_consumer.values()
            if len({account.ledger_id for account in accounts}) > 1
        ]


def _same(current: Account, other: Account) -> bool:
    return current.ledger_id == other.ledger_id and current.credential == other.credential


def _shortened(message: str) -> str:
    return " ".join(message.split())[:MAX_REASON_CHARS]
