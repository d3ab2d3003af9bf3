"""The fault to inject into a request: requested by a header, by a directive in its prompt, or by an operator."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from . import error_faults, wrappings

# Returned before any quota is checked, as Google's front end or quota service does.
REJECTIONS = frozenset(
    {
        "400",
        "401",
        "403",
        "404",
        "429",
        "429-day",
        "429-tokens",
        "429-images",
        "429-bare",
        "429-depleted",
        *error_faults.REJECTIONS,
    },
)
# Failures and unusual answers after the request was admitted and counted.
FAILURES = frozenset({"500", "503", "504", "hang", "reset", "cut", "slow", "malformed", *error_faults.FAILURES})
ODD_ANSWERS = frozenset(
    {"block", "safety", "max_tokens", "wrong_json", "not_json", "image_safety", "no_image", "text_only"}
    | {"image_base64url", "image_cut", "image_html"}
)
KINDS = REJECTIONS | FAILURES | ODD_ANSWERS | wrappings.NAMES | {wrappings.LATE_ERROR}
"""Wrappings can also be chained: `bom+gzip`."""

HANG_S = 600.0
SLOW_GAP_S = 1.0
MAX_WORDS = 100_000
MAX_FRAMES = 10_000
_MAX_LATENCY_MS = 600_000
_MAX_COUNT = 1_000_000
# Maximum of prompts whose `xN` count is remembered; the oldest is dropped first.
_PROMPTS_KEPT = 10_000

_SPEC = re.compile(r"(?P<kind>[a-z0-9_+-]+?)(?:@(?P<seconds>\d{1,4}(?:\.\d{1,3})?))?(?:x(?P<times>\d{1,6}))?")
_DIRECTIVE = re.compile(r"\[\[(fault|frames|latency|words):([a-z0-9_@.+-]{1,200})\]\]")


class BadDirective(ValueError):
    """An unknown fault. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`times`: only for this number of requests with the same prompt. `seconds`: the retry delay of a 429, the gap of `slow`,
    the bound of `hang`."""

    kind: str
    times: int | None = None
    seconds: float | None = None

    @property
    def wrappings(self) -> tuple[str, ...]:
        return wrappings.chain_of(self.kind)


@dataclass(frozen=True, slots=True)
class Directives:
    fault: Fault | None = None
    latency_s: float | None = None
    words: int | None = None
    frames: int | None = None
    """The frames of a stream; the last one has no text."""


NO_DIRECTIVES = Directives()


def parse_fault(text: str) -> Fault:
    """`503`, `503x2` (twice per prompt), `429@2.5` (seconds), `bom+gzip` (a chain of wrappings)."""
    match = _SPEC.fullmatch(text)
    if match is None or not (match["kind"] in KINDS or wrappings.chain_of(match["kind"])):
        raise BadDirective(f"Unknown emulator fault {text[:40]!r}. Known: {', '.join(sorted(KINDS))}.")
    return Fault(
        match["kind"],
        int(match["times"]) if match["times"] else None,
        float(match["seconds"]) if match["seconds"] else None,
    )


def from_prompt(prompt: str) -> Directives:
    """Every `[[fault:..]]`, `[[latency:ms]]`, `[[words:n]]` and `[[frames:n]]` of a prompt; the last of each kind counts."""
    if "[[" not in prompt:
        return NO_DIRECTIVES
    return _directives(_DIRECTIVE.findall(prompt))


def from_header(value: str | None) -> Directives:
    """`x-emulator-fault: 503x2, latency:2000`: a bare word is a fault."""
    if not value:
        return NO_DIRECTIVES
    words = [word.strip() for word in value.split(",") if word.strip()]
    return _directives(
        [(kind, rest) if rest else ("fault", kind) for kind, _, rest in (w.partition(":") for w in words)]
    )


def without_directives(prompt: str) -> str:
    return _DIRECTIVE.sub("", prompt).strip() if "[[" in prompt else prompt


def _directives(pairs: list[tuple[str, str]]) -> Directives:
    found = dict(pairs)
    if unknown := set(found) - {"fault", "frames", "latency", "words"}:
        raise BadDirective(f"Unknown emulator directive {sorted(unknown)[0][:40]!r}.")
    return Directives(
        fault=parse_fault(found["fault"]) if "fault" in found else None,
        latency_s=_count(found["latency"], "latency", _MAX_LATENCY_MS) / 1000 if "latency" in found else None,
        words=_count(found["words"], "words", MAX_WORDS) if "words" in found else None,
        frames=_count(found["frames"], "frames", MAX_FRAMES) if "frames" in found else None,
    )


def _count(text: str, name: str, most: int) -> int:
    if not text.isdecimal() or int(text) > most:
        raise BadDirective(f"Emulator directive {name} takes a whole number up to {most}.")
    return int(text)


@dataclass(slots=True)
class _Order:
    fault: Fault
    left: int
    key: str | None
    model: str | None


class Faults:
    """The pending faults: an operator's orders, and how often each prompt has had its `xN` fault."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._fired: OrderedDict[tuple[str, str], int] = OrderedDict()

    def order(self, fault: str, count: int = 1, key: str | None = None, model: str | None = None) -> None:
        """Injects the fault into the next `count` requests (of that key, of that model). Raises BadDirective."""
        if not 1 <= count <= _MAX_COUNT:
            raise BadDirective(f"count must be from 1 to {_MAX_COUNT}.")
        self._orders.append(_Order(parse_fault(fault), count, key, model))

    def clear(self) -> None:
        self._orders.clear()
        self._fired.clear()

    def pending(self) -> list[dict[str, Any]]:
        return [{"fault": order.fault.kind, "count": order.left, "model": order.model} for order in self._orders]

    def choose(self, asked: Fault | None, prompt: str, key: str, model: str) -> Fault | None:
        """The fault for this request: its own, otherwise that of the oldest matching order."""
        if asked is not None:
            return asked if asked.times is None or self._counts(asked, asked.times, prompt) else None
        for order in self._orders:
            if order.key in (None, key) and order.model in (None, model):
                order.left -= 1
                if not order.left:
                    self._orders.remove(order)
                return order.fault
        return None

    def _counts(self, fault: Fault, times: int, prompt: str) -> bool:
        name = (fault.kind, prompt)
        fired = self._fired.pop(name, 0)
        self._fired[name] = min(fired + 1, times)
        if len(self._fired) > _PROMPTS_KEPT:
            self._fired.popitem(last=False)
        return fired < times
