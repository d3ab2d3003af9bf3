"""The virtual Gemini: accepts requests, answers after their duration, and refuses what exceeds its limits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from shared.accounts.account import Account
from shared.gemini.errors import Violation
from shared.generation import Cost
from shared.ledger.limits import Limits
from tests.simulation.history import FOREVER, Exchange, Refused, Spell
from tests.simulation.loop import VirtualLoop

TRAVEL_S = (0.001, 0.250)
"""Time from the last check to the arrival, which varies by at most 250 ms (A1, A2)."""


@dataclass(frozen=True, slots=True)
class Work:
    """The work that a request causes at Gemini."""

    project: str
    model: str
    caller: str
    cost: Cost
    used_tokens: int
    service_s: float
    hangs: bool = False
    call: int = -1
    asked: str = ""
    booked: str = ""
    named_ms: float = FOREVER


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_s` and `limits`: the delay and the quota that a 429 names; neither for shared pressure."""

    status: int
    retry_s: float | None = None
    limits: Limits | None = None
    exceeded: tuple[int, ...] = ()
    """The dimensions of a Cost whose quota was exceeded."""
    model: str = ""
    """The model as which the request was metered."""
    violations: tuple[Violation, ...] = ()
    """The quotas that a spell's refusal names; empty for any other answer."""


@dataclass(slots=True)
class Open:
    """One request, from its first byte on. `settled_tokens` are the tokens that its process learned."""

    work: Work
    instance: str
    written_ms: float
    answer: asyncio.Future[Answer]
    arrived_ms: float = 0.0
    delivered: bool = False
    ended_ms: float | None = None
    status: int = 0
    settled_tokens: int | None = None
    left_ms: float | None = None


@dataclass(slots=True)
class Rival:
    """Another consumer of the same quota: the model's limits are these meanwhile."""

    project: str
    model: str
    limits: Limits
    from_s: float
    until_s: float
    names_the_limit: bool


@dataclass(slots=True)
class VirtualGemini:
    """`pressure`: the probability of a 429 without a quota. `sent` holds every request, whatever became of it."""

    loop: VirtualLoop
    random: Random
    began_ms: float
    window_s: float
    travel_s: tuple[float, float] = TRAVEL_S
    pressure: float = 0.0
    cancels: bool = True
    """Whether a request ends when its connection is closed. If not, it ends when it would have been answered."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """By id, as which model it is metered; "" for an id that does not exist."""
    one_project: str = ""
    """The project that all accounts belong to, if it is one."""
    rivals: list[Rival] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    sent: list[Open] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    """The 429s with a time that processes have received."""
    _recent: dict[tuple[str, str], deque[tuple[float, int]]] = field(default_factory=dict)

    def project_of(self, account: Account) -> str:
        """The Google project of an account; its ledger has the same id, unless several ledgers turn out to be of one project."""
        return self.one_project or account.ledger_id

    def metered(self, asked: str) -> str:
        """The model behind an id; "" where there is none."""
        return self.aliases.get(asked, asked)

    def now_ms(self) -> float:
        return self.began_ms + self.loop.now_s * 1000

    def write(self, work: Work, instance: str, timeout_s: float) -> Open:
        """The first byte, now; Gemini ends the request `timeout_s` later (A4). `deliver` is for the last byte."""
        answer = self.loop.create_future()
        request = Open(work, instance, self.now_ms(), answer)
        request.arrived_ms = request.written_ms
        self.sent.append(request)
        self.loop.post(timeout_s, self._end, request, 504)
        return request

    def deliver(self, request: Open) -> None:
        least, most = self.travel_s
        # Mostly one extreme or the other, because windows overflow there.
        travel_s = least + (most - least) * min(1.0, max(0.0, self.random.uniform(-1.0, 2.0)))
        # Known now, so that a request whose writer dies meanwhile is counted too.
        request.arrived_ms = self.now_ms() + travel_s * 1000
        request.delivered = True
        self.loop.post(travel_s, self._arrive, request)

    def close(self, request: Open) -> None:
        """The process closed its connection, which ends an incomplete request in any case."""
        if self.cancels or not request.delivered:
            self._end(request, 0)
        elif request.ended_ms is None:
            request.left_ms = self.now_ms()

    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(
            Exchange(
                o.work.project, o.work.model, o.instance, o.work.caller, o.work.cost, o.written_ms, o.arrived_ms,
                self.now_ms() if o.ended_ms is None else o.ended_ms, o.work.used_tokens, o.status, o.work.call,
                o.work.asked, o.work.booked, o.work.named_ms,
                o.settled_tokens, o.left_ms,
            )
            for o in self.sent
        )  # fmt: skip

    def _arrive(self, request: Open) -> None:
        if request.ended_ms is not None:
            return
        work, now_s = request.work, self.loop.now_s
        if not work.model:
            self.loop.post(0.01, self._answer, request, Answer(404))
            return
        refused = self._judge(work, now_s)
        if refused is not None:
            self._answer(request, refused)
        elif not work.hangs:
            self.loop.post(work.service_s, self._answer, request, Answer(200, model=work.model))

    def _judge(self, work: Work, now_s: float) -> Answer | None:
        recent = self._recent.setdefault((work.project, work.model), deque())
        while recent and recent[0][0] <= now_s - self.window_s:
            recent.popleft()
        for spell in self.spells:
            concerned = spell.project == work.project and spell.model in (work.model, "")
            if concerned and spell.from_ms <= self.now_ms() < spell.until_ms:
                spent = (len(recent) + 1, sum(tokens for _, tokens in recent) + work.used_tokens)
                violations = _violations(spell, spent)
                if violations:
                    return Answer(429, spell.delay_s, violations=violations, model=work.model)
        for rival in self.rivals:
            if (rival.project, rival.model) == (work.project, work.model) and rival.from_s <= now_s < rival.until_s:
                requests, tokens = rival.limits.requests, rival.limits.input_tokens
                spent = (len(recent) + 1, sum(t for _, t in recent) + work.used_tokens)
                over = [k for k, limit in enumerate((requests, tokens)) if limit is not None and spent[k] > limit]
                if over:
                    retry_s = self.random.uniform(0.2, self.window_s)
                    return Answer(
                        429, retry_s, rival.limits if rival.names_the_limit else Limits(), tuple(over), work.model
                    )
        recent.append((now_s, work.used_tokens))
        return Answer(429) if self.pressure and self.random.random() < self.pressure else None

    def _answer(self, request: Open, answer: Answer) -> None:
        if request.ended_ms is None:
            self._end(request, answer.status)
            self.loop.post(self.random.uniform(*self.travel_s) / 2, _hand_over, request.answer, answer)

    def _end(self, request: Open, status: int) -> None:
        if request.ended_ms is None:
            request.ended_ms, request.status = self.now_ms(), status


def _violations(spell: Spell, spent: tuple[int, int]) -> tuple[Violation, ...]:
    match spell.kind:
        case "spend":
            return (Violation("spend", "other"),)
        case "rate":
            return (Violation("requests", "minute"),)
        case "zero":
            return (Violation("requests", "minute", 0), Violation("requests", "day", 0))
        case "day":
            return (Violation("requests", "day", spell.limits.requests_per_day),)
        case _:
            limits = (("requests", spell.limits.requests), ("input_tokens", spell.limits.input_tokens))
            over = zip(limits, spent, strict=True)
            return tuple(
                Violation(dimension, "minute", limit)  # type: ignore[arg-type]
                for (dimension, limit), amount in over
                if limit is not None and amount > limit
            )


def _hand_over(answer: asyncio.Future[Answer], value: Answer) -> None:
    if not answer.done():
        answer.set_result(value)
