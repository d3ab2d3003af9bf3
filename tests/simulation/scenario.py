"""The scenario of a seed: a deployment, its load, and everything that goes wrong in it. Plain data, drawn once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from shared.accounts.account import Account
from shared.generation import Cost
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.contention import MAX_WAITING
from tests.simulation.drawn_spells import spells_of
from tests.simulation.history import Spell
from tests.simulation.upstream import Rival
from tests.simulation.variations import with_contention, with_deadlines, with_leavers, with_names

FaultKind = Literal["kill", "freeze", "cut", "refuse", "overloaded", "hang", "mute", "wall"]
DAY = pacific_day(1_800_000_000_000)
LARGE_EVERY = 50
"""One seed in this many is a large deployment."""
CALM_EVERY = 10
"""One seed in this many has no faults, and more demand than the limit: in it the use of the limit is judged."""
TIGHT_EVERY = 20
"""One seed in this many has only a few slots, and processes that freeze between taking a slot and using it."""
NAMES_EVERY = 4
"""One seed in this many has ids that are aliases, unknown, or of missing models."""
LEAVERS_EVERY = 10
"""In one seed in this many, many callers disconnect while Gemini continues their requests."""
DEADLINES_EVERY = 10
"""In one seed in this many, callers state deadlines between a second and the longest that is accepted."""
CONTENDED_EVERY = 3
"""In one seed in this many, the store resists: commits on a document wait for one another, and fail if too many wait."""
GRIDS = [(3_000, 50), (4_000, 100), (4_000, 100), (5_000, 250), (6_000, 150)]
"""Windows and slots in ms. Fewer slots per window than in production: the arithmetic is the same, and faster."""


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


def scenario_of(seed: int) -> Scenario:
    drawn = _drawn(seed)
    return with_contention(drawn) if seed % CONTENDED_EVERY == 1 else drawn


def _drawn(seed: int) -> Scenario:
    random = Random(f"scenario {seed}")
    if seed % CALM_EVERY == CALM_EVERY - 2:
        return calm(random, seed)
    if seed % TIGHT_EVERY == TIGHT_EVERY - 5:
        return tight(random, seed)
    if seed % (2 * TIGHT_EVERY) == 5:
        return distant(random, seed)
    drawn = _Drawing(random, seed, large=seed % LARGE_EVERY == LARGE_EVERY - 1).scenario()
    if seed % LEAVERS_EVERY == LEAVERS_EVERY - 4:
        return with_leavers(drawn)
    if seed % DEADLINES_EVERY == DEADLINES_EVERY - 8:
        return with_deadlines(drawn)
    return with_names(drawn) if seed % NAMES_EVERY == NAMES_EVERY - 1 else drawn


def calm(random: Random, seed: int) -> Scenario:
    """One model with more demand than its limit, from callers that all want the same, without faults."""
    grid = grid_of(*random.choice(GRIDS))
    window_s = grid.window_ms / 1000
    requests, instances = random.choice([3, 5, 8, 12, 20, 40]), random.choice([1, 2, 3, 4])
    limits = Limits(requests, random.choice([None, 20 * requests]), requests_per_day=random.choice([None, 100_000]))
    account = Account("a0", "p0", Secret("a0"), 60, limits)
    per_instance = max(2, -(-requests // (2 * instances)))
    busy_s = 2 * window_s + window_s * max(3, 24 // requests)
    kind = Kind("m0", (0,), tokens=(1, 20), service_s=(0.02, 0.1), patience_s=(300.0, 300.0))
    clients = [
        Client(f"c{instance}.{at}", kind, 0.0, random.uniform(0, 0.5), busy_s, home=instance)
        for instance in range(instances)
        for at in range(per_instance)
    ]
    hurried = replace(kind, patience_s=(0.5, window_s))
    guests = [Client(f"g{at}", hurried, 0.0, 0.5, busy_s, home=at) for at in range(random.choice([0, 2]))]
    return Scenario(
        seed=seed, grid=grid, tau_s=2.0, lease_s=random.choice([2.0, 2.0, None]), busy_s=busy_s,
        deployments=(Deployment((account,)),), population=((0.0, instances),), clients=(*clients, *guests),
        delay_s=(0.005, 0.03), repeated=random.choice([0.0, 0.3]), queue_timeout_s=300.0,
        saturated=Saturated("p0", "m0", 2 * window_s, busy_s, tuple(client.name for client in clients)),
    )  # fmt: skip


def distant(random: Random, seed: int) -> Scenario:
    """A saturated limit, and a store so far away that no instance knows its time to a slot."""
    near = calm(random, seed)
    clients = tuple(replace(client, kind=replace(client.kind, connect_s=(-0.05, 0.05))) for client in near.clients)
    return replace(
        near, grid=grid_of(3_000, 50), delay_s=(0.02, 0.12), lease_s=5.0, repeated=0.0, saturated=None, clients=clients
    )  # fmt: skip


def tight(random: Random, seed: int) -> Scenario:
    """Concurrency alone is scarce: no model has a limit, leases are short, and freezes strike at every step."""
    account = Account("a0", "p0", Secret("a0"), random.choice([1, 2, 3]), Limits())
    busy_s, tau_s = random.uniform(15, 25), random.choice([1.0, 2.0])
    kind = Kind(
        "m0", (0,), service_s=(0.2, tau_s), patience_s=(3.0, 20.0), hangs=0.2, leaves=0.1, connect_s=(-0.1, 0.4)
    )  # fmt: skip
    clients = [Client(f"c{at}", kind, 0.1, random.uniform(0, 2), busy_s) for at in range(random.choice([4, 8]))]
    faults = [
        Fault(
            "freeze", random.uniform(0.05, 0.9) * busy_s, random.uniform(1, 8), random.random(), random.randint(1, 30)
        )
        for _ in range(random.choice([4, 8, 16]))
    ]
    return Scenario(
        seed=seed,
        grid=grid_of(*random.choice(GRIDS)),
        tau_s=tau_s,
        lease_s=random.choice([0.5, 1.0]),
        busy_s=busy_s,
        deployments=(Deployment((account,)),),
        population=((0.0, random.choice([2, 3, 4])),),
        clients=tuple(clients),
        faults=tuple(faults),
        delay_s=(0.002, 0.02),
    )


class _Drawing:
    def __init__(self, random: Random, seed: int, *, large: bool) -> None:
        self.random, self.seed, self.large = random, seed, large
        self.grid = Grid.of(4.0) if random.random() < 0.05 else grid_of(*random.choice(GRIDS))
        self.busy_s = random.uniform(10, 18) if large else random.uniform(12, 30)
        self.tau_s = random.choice([1.0, 2.0, 4.0])
        self.per_day: list[int | None] = [None, None, None, None, 5, 30, 100]
        self.models = [f"m{at}" for at in range(random.choice([1, 1, 2, 3]))]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def scenario(self) -> Scenario:
        random = self.random
        at_midnight = self.chance(0.2)
        if at_midnight:
            self.per_day = [2, 3, 5, 10]
        accounts = self._accounts()
        deployments = [Deployment(accounts)]
        if self.chance(0.15):
            deployments.append(Deployment(self._changed(accounts), random.uniform(0.2, 0.6) * self.busy_s))
        faulty, lossy, local = self.chance(0.8), self.chance(0.7), self.chance(0.15)
        clients = self._clients(accounts)
        delay_s = (0.0, 0.003) if local else random.choice([(0.005, 0.03), (0.005, 0.1), (0.001, 0.5)])
        slow = delay_s[1] > 0.1
        scenario = Scenario(
            seed=self.seed,
            grid=self.grid,
            tau_s=self.tau_s,
            lease_s=random.choice([3.0, 5.0, None] if slow else [0.5, 1.0, 2.0, 2.0, None]),
            busy_s=self.busy_s,
            deployments=tuple(deployments),
            population=self._population(),
            clients=clients,
            faults=tuple(self._faults(local=local)) if faulty else (),
            delay_s=delay_s,
            lost=random.choice([0.0, 0.01, 0.05]) if lossy and not local else 0.0,
            repeated=random.choice([0.0, 0.05]) if lossy and not local else 0.0,
            late=random.choice([0.0, 0.0, 0.02]) if lossy and not local else 0.0,
            drift=0.0 if local else 490e-6,
            queue_timeout_s=random.choice([2.0, 3.0, 5.0, 15.0]) * (1 + slow),
            began_ms=DAY.end_ms - 1000 * random.uniform(0.1, 0.9) * self.busy_s
            if at_midnight
            else DAY.start_ms + 3.6e7,
            local=local,
            stops_when_idle=not local and self.chance(0.5),
            holds_on=not local and self.seed % 2 == 0,
            rivals=self._rivals(accounts, random.choice(clients).kind) if faulty and self.chance(0.25) else (),
            pressure=0.02 if faulty and self.chance(0.1) else 0.0,
        )
        if not faulty:
            return scenario
        return replace(scenario, spells=spells_of(self.seed, self.busy_s, self.models, accounts, scenario.began_ms))

    def _limits(self) -> Limits:
        random = self.random
        requests = random.choice([None, 1, 2, 3, 5, 8, 12, 20, 40]) if not self.large else random.choice([20, 60, 150])
        tokens = random.choice([None, None, 100, 200, 500, 1000])
        images = random.choice([None, None, None, 4])
        if self.chance(0.1):
            return Limits()
        return Limits(requests, tokens, images, random.choice(self.per_day))

    def _accounts(self) -> tuple[Account, ...]:
        count = self.random.choice([1, 1, 1, 2, 3])
        c = self.random.choice([1, 2, 3, 4, 8, 15])
        accounts = [self._account(f"a{at}", f"p{at}", c) for at in range(count)]
        if self.chance(0.15):  # A second key of the first project: one ledger, two accounts.
            accounts.append(Account("b0", "p0", Secret("b0"), c, accounts[0].limits, accounts[0].model_limits))
        if self.chance(0.15):
            own = self._account("own", "u-0123456789abcdef", c)
            accounts.append(
                Account(own.id, own.ledger_id, own.credential, c, own.limits, own.model_limits, caller_key=True)
            )
        return tuple(accounts)

    def _account(self, name: str, project: str, c: int) -> Account:
        model_limits = {model: self._limits() for model in self.models[1:]}
        return Account(name, project, Secret(name), c, self._limits(), model_limits)

    def _changed(self, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        c = max(1, accounts[0].concurrency + self.random.choice([-2, -1, 0, 1, 3]))
        changed: dict[str, Account] = {}
        result = []
        for account in accounts:
            first = changed.setdefault(account.ledger_id, self._account(account.id, account.ledger_id, c))
            result.append(
                Account(
                    account.id, account.ledger_id, account.credential, c, first.limits, first.model_limits,
                    caller_key=account.caller_key,
                )
            )  # fmt: skip
        return tuple(result)

    def _population(self) -> tuple[tuple[float, int], ...]:
        random = self.random
        if self.large:
            most = random.choice([20, 30, 50, 100])
            return ((0.0, 0), (1.0, most // 2), (self.busy_s * 0.4, most), (self.busy_s * 0.8, 0))
        first = random.choice([1, 1, 2, 2, 3, 4, 6])
        result = [(0.0, first)]
        if self.chance(0.4):
            result += [(random.uniform(0.2, 0.9) * self.busy_s, random.choice([0, 1, 2, 5])) for _ in range(2)]
        return tuple(sorted(result))

    def _kind(self, accounts: tuple[Account, ...]) -> Kind:
        random = self.random
        server = [at for at, account in enumerate(accounts) if not account.caller_key]
        own = [at for at, account in enumerate(accounts) if account.caller_key]
        chosen = own if own and self.chance(0.3) else server if self.chance(0.7) else [random.choice(server)]
        most = random.choice([10, 50, 180])
        service = random.choice([(0.02, 0.1), (0.1, 0.6), (0.5, 2.0), (self.tau_s * 0.7, self.tau_s * 0.95)])
        patience = random.choice([(0.5, 2.0), (2.0, 6.0), (3.0, 10.0), (10.0, 20.0)])
        return Kind(
            random.choice(self.models),
            tuple(chosen),
            tokens=(1, most),
            images=random.choice([0, 0, 0, 1, 2]),
            used=random.choice([(1.0, 1.0), (0.2, 1.0), (0.5, 1.5)]),
            service_s=service,
            patience_s=patience,
            batch=self.chance(0.15),
            hangs=random.choice([0.0, 0.0, 0.05]),
            leaves=random.choice([0.0, 0.1, 0.3]),
            slow_body=random.choice([0.0, 0.0, 0.1]),
            connect_s=random.choice([(0.0, 0.0), (-0.3, 0.3)]),
        )

    def _clients(self, accounts: tuple[Account, ...]) -> tuple[Client, ...]:
        random = self.random
        result = []
        for group in range(random.choice([1, 2, 3])):
            kind, think_s = self._kind(accounts), random.choice([0.0, 0.2, 1.0])
            count = random.randint(20, 60) if self.large else random.choice([1, 2, 4, 8])
            bursty = self.chance(0.3)
            for at in range(count):
                from_s = random.uniform(0, 0.5 * self.busy_s) if not bursty else 0.3 * self.busy_s
                name = f"{'abc'[group]}{at}"
                result.append(Client(name, kind, think_s, from_s, self.busy_s, obeys_retry_after=self.chance(0.8)))
        return tuple(result)

    def _faults(self, *, local: bool) -> list[Fault]:
        random = self.random
        kinds: list[FaultKind] = ["kill", "freeze", "freeze", "wall"]
        if not local:
            kinds += ["kill", "freeze", "cut", "refuse", "overloaded", "hang", "mute"]
        result = []
        for _ in range(random.choice([1, 2, 3, 6])):
            kind = random.choice(kinds)
            length = random.choice([0.1, 0.3, 1.0, 3.0, 8.0, 20.0]) * random.uniform(0.5, 1.5)
            if kind in ("refuse", "overloaded", "hang", "mute", "cut"):
                length = min(length, 8.0)
            at_s = random.uniform(0.05, 0.85) * self.busy_s
            step = random.randint(1, 60) if self.chance(0.5) else 0
            result.append(Fault(kind, at_s, length, random.random(), step))
        return result

    def _rivals(self, accounts: tuple[Account, ...], kind: Kind) -> tuple[Rival, ...]:
        random = self.random
        account = accounts[random.choice(kind.accounts)]
        from_s = random.uniform(0.2, 0.5) * self.busy_s
        until_s = from_s + random.uniform(1, 6)
        limits = Limits(requests=random.choice([1, 2, 5]))
        return (Rival(account.ledger_id, kind.model, limits, from_s, until_s, self.chance(0.5)),)
