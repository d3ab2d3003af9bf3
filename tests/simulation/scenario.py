"""The scenario of a seed: a deployment, its load, and everything that goes wrong in it. Plain data, drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from shared.accounts.account import Account
from shared.generation import Cost
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from tests.simulation.contention import MAX_WAITING
from tests.simulation.history import Spell
from tests.simulation.upstream import Rival

FaultKind = Literal["kill", "freeze", "cut", "refuse", "overloaded", "hang", "mute", "wall"]
DAY = pacific_day(1_800_000_000_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """`kill` and `freeze` strike at `at_s`, or right before the `step`-th callback that the process runs after it."""

    kind: FaultKind
    at_s: float
    length_s: float = 0.0
    victim: float = 0.0
    """The affected instance, as a position (0 to 1) among those that live then."""
    step: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request. `used` is the range of the share of reserved tokens that Gemini counts."""

    model: str
    accounts: tuple[int, ...]
    tokens: tuple[int, int] = (10, 10)
    images: int = 0
    used: tuple[float, float] = (1.0, 1.0)
    service_s: tuple[float, float] = (0.05, 0.3)
    patience_s: tuple[float, float] = (10.0, 10.0)
    batch: bool = False
    hangs: float = 0.0
    leaves: float = 0.0
    slow_body: float = 0.0
    uncounted: float = 0.0
    """The share of answers without token counts."""
    connect_s: tuple[float, float] = (0.0, 0.0)
    """Time between taking a permit and writing with it, at the first try; a negative draw is 0."""
    inputs: tuple[int, int] = (0, 0)
    """How many inputs a batch of embeddings has, each with its tokens; (0, 0): the request is no batch."""

    def cost(self, random: Random) -> Cost:
        if not self.inputs[1]:
            return Cost(1, random.randint(*self.tokens), self.images)
        count = random.randint(*self.inputs)
        return Cost(count, sum(random.randint(*self.tokens) for _ in range(count)), batches=1)


@dataclass(frozen=True, slots=True)
class Client:
    """A caller that sends a request, waits for the answer, pauses and sends the next, from `from_s` to `until_s`."""

    name: str
    kind: Kind
    think_s: float
    from_s: float
    until_s: float
    home: int = -1
    """The number of the instance that it always uses; -1 for any."""
    obeys_retry_after: bool = True


@dataclass(frozen=True, slots=True)
class Deployment:
    """The accounts of instances that start at `from_s` or later."""

    accounts: tuple[Account, ...]
    from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """From `at_s` on, running instances read these accounts in place of their own, each at a time of its own."""

    accounts: tuple[Account, ...]
    at_s: float
    within_s: float
    """How long it takes until all have."""
    unread_by: tuple[int, ...] = ()
    """The numbers of instances that go on without it."""


@dataclass(frozen=True, slots=True)
class Merger:
    """An instance finds out that the accounts of two ledgers are of one Google project, and merges them."""

    at_s: float
    ledgers: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Saturated:
    """A time in which, by construction, these callers always want more than the model's limit."""

    project: str
    model: str
    from_s: float
    until_s: float
    callers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    grid: Grid
    tau_s: float
    lease_s: float | None
    busy_s: float
    """When load and faults end."""
    deployments: tuple[Deployment, ...]
    population: tuple[tuple[float, int], ...]
    """(time, number of instances from then on)."""
    clients: tuple[Client, ...]
    faults: tuple[Fault, ...] = ()
    delay_s: tuple[float, float] = (0.005, 0.03)
    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    commit_s: tuple[float, float] = (0.0, 0.0)
    """How long the store takes for a commit; those on one document are served one after another."""
    max_waiting_commits: int = MAX_WAITING
    drift: float = 450e-6
    queue_timeout_s: float = 30.0
    began_ms: float = float(DAY.start_ms) + 36_000_000
    local: bool = False
    """Whether all processes run on one machine: the store notices their ends, and permits linger."""
    stops_when_idle: bool = False
    """Whether the CPU stops with the last response, as on Cloud Functions."""
    cancels: bool = True
    """Whether Gemini stops working on an exchange when its connection is closed, as the deployment is configured."""
    holds_on: bool = False
    """Whether an idle instance keeps what it holds between frequent requests."""
    rivals: tuple[Rival, ...] = ()
    spells: tuple[Spell, ...] = ()
    judges_spells: bool = False
    """Whether demand lasts, so that the times of probes are judged."""
    pressure: float = 0.0
    aliases: tuple[tuple[str, str], ...] = ()
    """Ids, each with the model that Gemini meters it as; "" for one that does not exist."""
    known: frozenset[str] | None = None
    """The ids that the deployment knows; None: all."""
    saturated: Saturated | None = None
    reconfigurations: tuple[Reconfiguration, ...] = ()
    mergers: tuple[Merger, ...] = ()
    merged: tuple[Account, ...] = ()
    """The accounts once all ledgers are merged. Their limits are those of the whole project, at all times."""
    one_project: str = ""
    """The Google project that all accounts belong to, if it is one: the ledger that all others are merged into."""


def grid_of(window_ms: int, slot_ms: int) -> Grid:
    return Grid(window_ms, slot_ms, -(-(window_ms + JITTER_MS) // slot_ms) + 1)
