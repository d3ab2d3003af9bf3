"""What happened, as plain data: enough to judge every promise afterwards. Times are ms of one true clock, since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.generation import Cost
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.state import Kind

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that a process began to write to Gemini."""

    project: str
    model: str
    instance: str
    caller: str
    cost: Cost
    """The reserved cost."""
    written_ms: float
    arrived_ms: float
    """When Gemini counted the request."""
    ended_ms: float
    """When the process closed it or Gemini finished it, whichever was first; at the latest at its deadline."""
    used_tokens: int
    """Input tokens as Gemini counted them."""
    status: int = 200
    call: int = -1
    """The number of the history's call that it served."""
    asked: str = ""
    """The id that was requested, if it is not `model`, which Gemini meters."""
    booked: str = ""
    """The section of the ledger in which its permit was booked, if it is not `model`."""
    named_ms: float = FOREVER
    """When the ledger first knew what `asked` is metered as."""
    settled_tokens: int | None = None
    """The tokens with which the process settled it; None if it never learned the count, so the reservation stays booked."""
    left_ms: float | None = None
    """When its process closed the connection while Gemini continued; None if it did not."""

    @property
    def section(self) -> str:
        return self.booked or self.model

    @property
    def debt_tokens(self) -> int:
        return max(0, self.used_tokens - self.cost.input_tokens)

    @property
    def booked_debt_tokens(self) -> int:
        """The tokens beyond the reservation that the process reported to the ledger."""
        return 0 if self.settled_tokens is None else max(0, self.settled_tokens - self.cost.input_tokens)


Fate = Literal["answered", "refused", "left", "lost"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller to an instance. `lost`: its instance was killed."""

    number: int
    instance: str
    caller: str
    model: str
    projects: tuple[str, ...]
    cost: Cost
    batch: bool
    came_ms: float
    deadline_ms: float
    ended_ms: float
    fate: Fate
    code: str = ""
    retry_after_s: float | None = None
    served_ms: float | None = None
    """When its first permit was used."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits of a model of a project from one moment to another; where several overlap, the largest counts."""

    project: str
    model: str
    limits: Limits
    concurrency: int
    from_ms: float = 0.0
    until_ms: float = FOREVER


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault. `instance` is empty if it affected all instances."""

    kind: str
    from_ms: float
    until_ms: float
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Saturation:
    """A time in which these parties always wanted more than the model's limit, and no fault occurred."""

    project: str
    model: str
    from_ms: float
    until_ms: float
    best_use: float = 1.0
    """The maximum share of the limit that can be used: W / (span x slot)."""
    instances: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal of a model that Gemini sent to an instance, with its time."""

    project: str
    model: str
    instance: str
    from_ms: float
    until_ms: float


@dataclass(frozen=True, slots=True)
class Spell:
    """For a while Gemini refuses requests that it usually serves: all of a model (`zero`, and `rate` as if another consumer spent
    its quota per minute), all of a project (`spend`, `model`
    empty), all until midnight (`day`), or those beyond `limits` (`lower`). Judged only where demand lasts throughout."""

    kind: Kind
    project: str
    model: str
    from_ms: float
    until_ms: float
    limits: Limits = UNLIMITED
    delay_s: float | None = None
    """The delay that its refusals name."""
    relents: bool = True
    """Whether callers continue after it, so that the time until they are served again is judged."""


@dataclass(frozen=True, slots=True)
class History:
    window_ms: float
    exchanges: tuple[Exchange, ...]
    calls: tuple[Call, ...] = ()
    bounds: tuple[Bound, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    refused: tuple[Refused, ...] = ()
    saturations: tuple[Saturation, ...] = ()
    spells: tuple[Spell, ...] = ()
    jitter_ms: float = 250.0
    """Maximum time between an exchange's first byte and its arrival (A1, A2); a later arrival is booked as debt."""
