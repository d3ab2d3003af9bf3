"""What this process said to its ledgers lately, and how many commits it sent them: for telemetry."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

KEPT = 64
LEDGERS_KEPT = 1_000


class Conversation(NamedTuple):
    """One look at a ledger, or one renew. Times are on `clock.elapsed_s()`."""

    began_s: float
    ended_s: float
    wrote: bool
    """Whether a commit was sent."""


class Journal:
    """`writes`: commits sent by all agents ever, those included that were refused because somebody else was faster, or
    whose reply was lost."""

    def __init__(self) -> None:
        self.writes = 0
        self._recent: OrderedDict[str, deque[Conversation]] = OrderedDict()
        """By ledger, the one that was spoken to last at the end; of each the last KEPT."""

    def note(self, ledger: str, conversation: Conversation) -> None:
        kept = self._recent.get(ledger)
        if kept is None:
            kept = self._recent[ledger] = deque(maxlen=KEPT)
            if len(self._recent) > LEDGERS_KEPT:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(ledger)
        kept.append(conversation)

    def since(self, since_s: float) -> list[Conversation]:
        """Those that ended at `since_s` or later, by when they began."""
        found: list[Conversation] = []
        for kept in reversed(self._recent.values()):
            if kept[-1].ended_s < since_s:
                break
            for conversation in reversed(kept):
                if conversation.ended_s < since_s:
                    break
                found.append(conversation)
        return sorted(found)
