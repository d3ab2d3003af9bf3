"""What became of one item of a batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import GatewayError
from shared.generation import UNKNOWN_USAGE, Usage

Stop = Literal["exhausted", "unreachable", "refused", "later"]
"""No key can serve for now; the ledger does not respond; Gemini refuses the key or the model; the time for waiting is over."""


@dataclass(frozen=True, slots=True)
class Result:
    """Exactly one of `response` and `error` is None."""

    index: int
    """The item's place in the input, from 0."""
    response: str | None
    error: str | None
    """What is wrong, then what to do."""
    metadata: Any = field(default_factory=dict)
    """The item's own, as it came."""
    id: str | None = None
    code: str | None = None
    """The error's code, as in `shared/errors.py`."""
    retryable: bool = False
    """Whether the same item may succeed later: its project's day was spent, Gemini failed, or the ledger did not respond."""
    retry_at_s: float | None = None
    """Unix time from which a retry is of use, where that is known."""
    stops: Stop | None = None
    """Why other items would fail in the same way now."""
    failure: GatewayError | None = field(default=None, repr=False, compare=False)
    """What `error` is from."""
    model: str | None = None
    """The model that answered."""
    finish_reason: str | None = None
    usage: Usage = UNKNOWN_USAGE
    """Of all attempts that were answered. Unknown is not zero."""
    warnings: tuple[str, ...] = ()
    """What was ignored or removed in the item."""
    key: str | None = None
    """The account of the last attempt: in the library, the name of the variable that holds its key."""
    seconds: float = 0.0
    """From the first attempt to the answer, waiting included."""
    attempts: int = 0
    """Dispatches to Gemini."""
    lost: int = 0
    """Of these, exchanges whose answer Gemini may have generated and charged, and that have no count of tokens."""
