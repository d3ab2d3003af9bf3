"""The values that `policy` returns, and what it takes besides the holdings and the waiting requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from shared.admission.holdings import SlotLimit


class Idle(NamedTuple):
    """Nothing is due. An event, or a timer that is already set, comes first."""


class Linger(NamedTuple):
    """Nothing is in use: keep what is held for `s` seconds, then return it."""

    s: float


class Contact(NamedTuple):
    """Read or renew after `after_s` seconds; 0 means now."""

    after_s: float


Action = Idle | Linger | Contact
IDLE = Idle()


@dataclass(frozen=True, slots=True)
class Looked:
    """What is remembered of earlier reads of the document."""

    unclaimed_since_s: float = 0.0
    """Since when other instances have not taken slots that are free for them; 0.0: there are none."""
    unclaimed: bool = False
    """Whether the next renew may take these slots."""
    tried: bytes = b""
    """The document in which permits were last looked for."""
    tried_s: float = 0.0

    def claimed(self) -> Looked:
        """The value after a renew that took unclaimed slots."""
        return replace(self, unclaimed=False) if self.unclaimed else self


class Assessment(NamedTuple):
    """What a document that was read calls for."""

    renew: bool
    slots: SlotLimit
    looked: Looked


class Message(NamedTuple):
    """What a renew contains besides the holdings and the waiting requests."""

    number: int
    callers_away: int = 0
    """Callers that were rejected and are expected back."""
