"""Recent calls to the ledgers, and the number of commits sent to them: for telemetry."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

MAX_CALLS = 64
"""Calls remembered per ledger."""
MAX_LEDGERS = 1_000


class LedgerCall(NamedTuple):
    """One contact with a ledger: a read, a renew, or both. Times are on `clock.elapsed_s()`."""

    began_s: float
    ended_s: float
    wrote: bool
    """Whether a commit was sent."""


class LedgerCallLog:
    """`writes`: commits sent to all ledgers so far, including those that were rejected because another instance was faster, or
    whose reply was lost."""

    def __init__(self) -> None:
        self.writes = 0
        self._recent: OrderedDict[str, deque[LedgerCall]] = OrderedDict()
        """By ledger, the one called last at the end."""

    def add(self, ledger: str, call: LedgerCall) -> None:
        calls = self._recent.get(ledger)
        if calls is None:
            calls = self._recent[ledger] = deque(maxlen=MAX_CALLS)
            if len(self._recent) > MAX_LEDGERS:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(ledger)
        calls.append(call)

    def since(self, since_s: float) -> list[LedgerCall]:
        """The calls that ended at `since_s` or later, ordered by when they began."""
        found: list[LedgerCall] = []
        for calls in reversed(self._recent.values()):
            if calls[-1].ended_s < since_s:
                break
            for call in reversed(calls):
                if call.ended_s < since_s:
                    break
                found.append(call)
        return sorted(found)
