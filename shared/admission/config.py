"""What all ledger clients of one process have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.ledger.grid import Grid
from shared.ledger.state import AS_USUAL, Exhaustion

CALLER_KEY_TTL_S, ACCEPTED_KEY_TTL_S = 600, 49 * 3600


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """The settings of one process. `tau_s`: the longest that a request stays open. `lease_s`: None lets the ledger decide."""

    instance: str
    grid: Grid
    tau_s: float
    lease_s: float | None = None
    linger_s: float = 0.0
    """How long permits are kept after the last request. More than 0 only where this process keeps its CPU between
    requests and the store learns of its end (`Liveness`)."""
    holds_on: bool = False
    """Whether permits are kept between frequent requests, although this process may be stopped between them."""
    cancels: bool = False
    """Whether Gemini stops working on an exchange when its connection is closed. If not, a cancelled one keeps its slot."""
    exhaustion: Exhaustion = AS_USUAL
    """How long a model rests whose quota per minute is exhausted."""
    known: frozenset[str] | None = None
    """The ids in the model table or the configuration: each has a section of its own at once. None: every id has."""

    batches: Mapping[str, int] = field(default_factory=dict)
    """By id of an embedding model, how many batches a project may send per minute if the configuration does not say."""

    def caller_key_kept_s(self, accepted: bool) -> float:
        """How long the ledger of a caller's own key is kept after its last use; `accepted`: Gemini took the key once."""
        return ACCEPTED_KEY_TTL_S if accepted else max(CALLER_KEY_TTL_S, 2 * self.tau_s)


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Bounds of the queue, and how its callers are weighed."""

    queue_timeout_s: float = 30.0
    weights: Mapping[str, float] | None = None
    connections: int = 10_000
    """Maximum open exchanges of the process."""
    caller_key_connections: int | None = None
    """Maximum of them with callers' own keys; None: no separate limit."""
