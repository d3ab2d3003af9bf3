"""Limits of a (project, model): what they are, the tiers' defaults, and the minimum of several configurations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from shared.generation import BATCHES_AT

Limit = int | None
"""None means unlimited; 0 means that no request is allowed."""


class Limits(NamedTuple):
    """Per window (a minute) and per Pacific day."""

    requests: Limit = None
    input_tokens: Limit = None
    images: Limit = None
    requests_per_day: Limit = None
    batches: Limit = None
    """Calls of `:batchEmbedContents` per window, of all models of the project together."""

    @property
    def per_window(self) -> tuple[Limit, Limit, Limit, Limit]:
        """By dimension of a Cost."""
        return self[0], self[1], self[2], self[4]

    @property
    def metered(self) -> tuple[bool, bool, bool, bool]:
        """Which dimensions of a Cost need a booking; a limit per day meters requests too."""
        return (
            self[0] is not None or self[3] is not None,
            self[1] is not None,
            self[2] is not None,
            self[4] is not None,
        )


UNLIMITED = Limits()

TIERS: dict[str, Limits] = {
    "free": Limits(requests=5, input_tokens=25_000, requests_per_day=25),
    "tier1": Limits(requests=300, input_tokens=1_000_000, requests_per_day=1_000),
    "tier2": Limits(requests=1_000, input_tokens=2_000_000, requests_per_day=10_000),
    "tier3": UNLIMITED,
}
"""`custom` is another name for tier3, whose numbers GEMINI_RPM, GEMINI_TPM and GEMINI_RPD must give."""


def smaller(a: Limit, b: Limit) -> Limit:
    return b if a is None else a if b is None else min(a, b)


PER_DAY_AT, BATCHES_LIMIT_AT = 3, 4
"""The indices of `requests_per_day` and `batches` in Limits."""


def dimension_of(k: int) -> int:
    """The dimension of a Cost that the limit at index `k` of Limits counts: a day's limit counts requests."""
    return 0 if k == PER_DAY_AT else BATCHES_AT if k == BATCHES_LIMIT_AT else k


T = TypeVar("T")


def newest(opinions: Iterable[tuple[int, T]]) -> list[T]:
    """The opinions of the newest configuration; `opinions` are pairs of its version and the opinion. Instances that have not
    read that configuration yet have no say, so that a limit can be raised while they run."""
    known = list(opinions)
    latest = max((version for version, _ in known), default=0)
    return [opinion for version, opinion in known if version == latest]


def minimum(opinions: Iterable[Limits]) -> Limits:
    """The smallest of each limit: instances of two deployments together never exceed what either allows."""
    result = UNLIMITED
    for other in set(opinions):
        result = Limits(*(smaller(a, b) for a, b in zip(result, other, strict=True)))
    return result
