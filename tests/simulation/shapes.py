"""Short deployments in which one thing is scarce, or fails all the time: one of a few shows a defect in that part."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations
from random import Random
from typing import Any

from shared.accounts.account import Account
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.simulation.history import Spell
from tests.simulation.scenario import (
    DAY,
    Client,
    Deployment,
    Fault,
    FaultKind,
    Kind,
    Merger,
    Reconfiguration,
    Saturated,
    Scenario,
    grid_of,
)
from tests.simulation.upstream import Rival

BUSY_S = 12.0
"""Four windows of 3 s."""
QUICK = Kind("m0", (0,), tokens=(1, 50), service_s=(0.02, 0.3), patience_s=(3.0, 8.0), connect_s=(-0.1, 0.2))
SLOW = Kind("m0", (0,), service_s=(0.2, 0.9), patience_s=(3.0, 8.0), connect_s=(-0.1, 0.3))


def deployment(
    seed: int, kind: Kind, limits: Limits, *, c: int = 8, instances: int = 3, callers: int = 9, **more: Any
) -> Scenario:
    random = Random(f"shape {seed}")
    clients = tuple(Client(f"c{at}", kind, 0.02, random.uniform(0, 1), BUSY_S) for at in range(callers))
    plain = Scenario(
        seed=seed, grid=grid_of(3_000, 50), tau_s=1.0, lease_s=1.0, busy_s=BUSY_S,
        deployments=(Deployment((Account("a0", "p0", Secret("a0"), c, limits),)),), population=((0.0, instances),),
        clients=clients, delay_s=(0.005, 0.03), queue_timeout_s=15.0, drift=0.0,
    )  # fmt: skip
    return replace(plain, **more)


def troubles(seed: int, kind: FaultKind, count: int, length_s: tuple[float, float] = (0.0, 0.0)) -> tuple[Fault, ...]:
    """`count` faults over the whole time, each right before a certain step of its victim."""
    random = Random(f"troubles {seed}")
    return tuple(
        Fault(
            kind, random.uniform(0.1, 0.8) * BUSY_S, random.uniform(*length_s), random.random(), random.randint(1, 30)
        )
        for _ in range(count)
    )  # fmt: skip


def scarce_requests(seed: int) -> Scenario:
    return deployment(seed, QUICK, Limits(requests=Random(seed).choice([3, 5, 8])))


def slow_connections(seed: int) -> Scenario:
    """Many permits expire before their requests can be written."""
    return deployment(seed, replace(QUICK, connect_s=(0.0, 1.0)), Limits(requests=8), callers=16)


def scarce_tokens(seed: int) -> Scenario:
    return deployment(seed, QUICK, Limits(input_tokens=200))


def uncertain_tokens(seed: int) -> Scenario:
    """Answers without token counts, estimates that are up to ten times too high, and others that are too low. Without Gemini's
    count, the reservation is an upper bound, since nothing else is known."""
    random = Random(f"uncertain {seed}")
    high = replace(
        QUICK, tokens=(1, random.choice([20, 80])), used=random.choice([(0.1, 1.0), (0.9, 1.0), (1.0, 1.0)]),
        uncounted=random.choice([0.2, 0.5, 1.0]),
        hangs=random.choice([0.0, 0.1]), leaves=random.choice([0.0, 0.2]),
    )  # fmt: skip
    low = replace(QUICK, tokens=(1, 30), used=(0.5, random.choice([1.5, 3.0])))
    scenario = deployment(
        seed, high, Limits(random.choice([None, 12]), random.choice([150, 300])), instances=random.choice([1, 2, 3, 4])
    )
    clients = tuple(replace(client, kind=low) if at % 3 == 2 else client for at, client in enumerate(scenario.clients))
    return replace(scenario, clients=clients)


def scarce_images(seed: int) -> Scenario:
    return deployment(seed, replace(QUICK, images=1), Limits(images=4))


def scarce_days(seed: int) -> Scenario:
    """A day ends as it begins, with some of its requests left."""
    began_ms = DAY.end_ms - 1000 * Random(seed).uniform(0.6, 1.4)
    return deployment(seed, QUICK, Limits(40, requests_per_day=Random(seed).choice([4, 6, 8])), began_ms=began_ms)


def scarce_slots(seed: int) -> Scenario:
    return deployment(seed, SLOW, Limits(), c=Random(seed).choice([2, 3, 4]))


def callers_who_leave(seed: int) -> Scenario:
    """Gemini continues requests of disconnected callers for as long as any answer takes; idle instances are stopped."""
    random = Random(f"leavers {seed}")
    kind = replace(SLOW, service_s=(random.choice([0.3, 0.6]),) * 2, leaves=0.5)
    return deployment(
        seed, kind, Limits(), c=random.choice([2, 3, 4]), instances=random.choice([2, 3]), callers=6, cancels=False,
        stops_when_idle=seed % 2 == 0,
    )  # fmt: skip


def processes_that_stand_still(seed: int) -> Scenario:
    """Processes freeze for longer than their authority lasts, right after they took a slot, which others take meanwhile."""
    return replace(scarce_slots(seed), lease_s=0.5, faults=troubles(seed, "freeze", 10, (1.0, 3.0)))


def processes_that_die(seed: int) -> Scenario:
    """Processes are killed with requests under way that they have not reported."""
    kills = troubles(seed, "kill", 8)
    return deployment(seed, replace(QUICK, hangs=0.2), Limits(12, requests_per_day=1_000), lease_s=2.5, faults=kills)


def short_and_long_deadlines(seed: int) -> Scenario:
    """Requests that may take a second, and now and then one that may take twenty. The process with the long one is killed or
    freezes: soon after, or when the long deadline is no longer expected again; others take its slots."""
    random, busy_s = Random(f"deadlines {seed}"), 4 * BUSY_S
    short = replace(SLOW, service_s=(0.1, 0.4), patience_s=(1.0, 1.5), hangs=0.15, connect_s=(-0.1, 0.1))
    clients = [Client(f"c{at}", short, 0.02, random.uniform(0, 1), busy_s) for at in range(15)]
    faults = []
    for at in range(6):
        from_s = 2.0 + 7.0 * at + random.random()
        late = at % 3 == seed % 3
        longest_s = random.uniform(17.0, 19.0) if late else random.uniform(9.0, 11.0)
        long = replace(short, patience_s=(longest_s, longest_s), hangs=1.0)
        clients.append(Client(f"long {at}", long, 0.0, from_s, from_s + 0.1, home=0))
        after_s = random.uniform(7.0, 8.5) if late else random.uniform(0.1, 1.5)
        kind: FaultKind = random.choice(["kill", "kill", "kill", "freeze"])
        faults.append(Fault(kind, from_s + after_s, 12.0, victim=0.0))
    return deployment(
        seed, short, Limits(), c=9, tau_s=30.0, lease_s=4.0, busy_s=busy_s, clients=tuple(clients), faults=tuple(faults)
    )  # fmt: skip


def processes_that_stop_with_their_last_answer(seed: int) -> Scenario:
    return deployment(seed, QUICK, Limits(12), stops_when_idle=True)


def repeated_messages(seed: int) -> Scenario:
    return deployment(seed, QUICK, Limits(12, requests_per_day=1_000), repeated=0.3)


def aliases(seed: int) -> Scenario:
    """From some time on, every other caller uses an alias of the one model; the deployment configures half of the aliases as
    models of their own."""
    base = deployment(seed, QUICK, Limits(requests=Random(seed).choice([5, 8])), callers=12)
    names = {f"x{at}": "m0" for at in range(6)}
    clients = [
        replace(client, from_s=1.0 + 1.5 * (at // 2), kind=replace(client.kind, model=f"x{at // 2}"))
        if at % 2
        else client
        for at, client in enumerate(base.clients)
    ]
    known = frozenset(["m0", "x0", "x2", "x4"])
    return replace(base, clients=tuple(clients), aliases=tuple(names.items()), known=known)


def an_alias_in_demand(seed: int) -> Scenario:
    """More callers than the limit use an alias that is configured as a model of its own, and as many use its target."""
    # Windows so long that permits are held for seconds, and so few slots that they are.
    base = deployment(seed, SLOW, Limits(requests=12), c=6, callers=30, grid=grid_of(20_000, 250), busy_s=3 * BUSY_S)
    clients = [
        replace(client, from_s=BUSY_S, until_s=base.busy_s, kind=replace(client.kind, model="x0"))
        if at % 2
        else replace(client, until_s=base.busy_s)
        for at, client in enumerate(base.clients)
    ]
    return replace(base, clients=tuple(clients), aliases=(("x0", "m0"),), known=frozenset(["m0", "x0"]))


def unproven_ids(seed: int) -> Scenario:
    """All callers use unknown ids, at several instances; half of the ids do not exist."""
    base = deployment(seed, SLOW, Limits(requests=20), callers=10)
    names = {f"x{at}": "m0" if at % 2 else "" for at in range(10)}
    clients = [replace(client, kind=replace(client.kind, model=f"x{at}")) for at, client in enumerate(base.clients)]
    return replace(base, clients=tuple(clients), aliases=tuple(names.items()), known=frozenset(["m0"]))


def refusals(seed: int) -> Scenario:
    """Another consumer spends the quota, again and again; the ledger itself allows more."""
    rivals = tuple(Rival("p0", "m0", Limits(requests=1), at, at + 2.0, names_the_limit=False) for at in (2.0, 5.0, 8.0))
    return deployment(seed, QUICK, Limits(20), rivals=rivals)


def changed_limits(seed: int) -> Scenario:
    """The limits of running instances are raised, changed at random, and lowered. In half of the seeds one instance goes on
    for long without reading any of it; in the other half processes freeze and die."""
    random, busy_s = Random(f"limits {seed}"), 30.0
    versions = [_limits(random.choice([3, 5]), 4), _limits(random.choice([12, 20]), 16)]
    versions += [_limits(random.choice([3, 8, 12, 20]), random.choice([2, 4, 8, 16])) for _ in range(2)]
    versions += [_limits(4, 2)] * 2
    accounts = [
        (Account("a0", "p0", Secret("a0"), c, limits, limits_version=version),)
        for version, (limits, c) in enumerate(versions)
    ]
    unread_by = (0,) if seed % 2 == 0 else ()
    changes = tuple(
        Reconfiguration(of_version, at_s, 0.5, unread_by if at_s < 29.0 else ())
        for of_version, at_s in zip(accounts[1:], (4.0, 13.0, 15.0, 17.0, 29.0), strict=True)
    )
    faults = () if unread_by else (*troubles(seed, "freeze", 4, (0.2, 2.0)), *troubles(seed, "kill", 2))
    plain = deployment(
        seed, replace(QUICK, patience_s=(300.0, 300.0), connect_s=(0.0, 0.0)), versions[0][0], callers=24,
        busy_s=busy_s, queue_timeout_s=300.0, faults=faults, reconfigurations=changes,
    )  # fmt: skip
    clients = tuple(
        replace(client, until_s=busy_s, think_s=0.0, home=at % 3) for at, client in enumerate(plain.clients)
    )
    names = tuple(client.name for client in clients)
    saturated = Saturated("p0", "m0", 4.5 + WINDOW_S, 12.99, names) if unread_by else None
    return replace(plain, deployments=(Deployment(accounts[0]),), clients=clients, saturated=saturated)


def _limits(requests: int, concurrency: int) -> tuple[Limits, int]:
    return Limits(requests, 40 * requests, requests_per_day=100 * requests), concurrency


def merged_projects(seed: int) -> Scenario:
    """Accounts of one Google project have two or three ledgers, with an equal part of its limits each. Instances merge them under
    load, in any order and several at once, in half of the seeds while processes freeze or die; then the whole limits are
    configured. In every other pair of seeds slots are scarce, in the others the rate and the day; in half of these permits are
    held for seconds."""
    random, slow, held = Random(f"merges {seed}"), seed % 4 < 2, seed % 4 == 3
    ledgers = [f"p{at}" for at in range(random.choice([2, 2, 3]))]
    parts, each, c = len(ledgers), random.choice([4, 8, 12]), random.choice([1, 2]) if slow else 8
    tokens, days = random.choice([None, 16 * each]), random.choice([None, None, 2 * each, 5 * each])
    part, whole = (
        Limits() if slow else Limits(each * of, tokens and tokens * of, None, days and days * of) for of in (1, parts)
    )
    before = tuple(Account(f"a{ledger}", ledger, Secret(ledger), c, part) for ledger in ledgers)
    after = tuple(replace(one, concurrency=c * parts, limits=whole, limits_version=1) for one in before)
    pairs = [*pairwise(ledgers), *random.choices(list(permutations(ledgers, 2)), k=random.choice([0, 1, 2]))]
    kind = replace(SLOW if slow else QUICK, hangs=0.05, tokens=(1, 25))
    chosen = [tuple(sorted(random.sample(range(parts), random.randint(1, parts)))) for _ in range(2)]
    faults: tuple[Fault, ...] = ()
    if seed % 8 >= 4:
        faults = (
            *troubles(seed, "freeze", 4, (0.2, 3.0)),
            *troubles(seed, random.choice(["kill", "cut"]), 3, (1.0, 3.0)),
        )
    plain = deployment(
        seed, kind, part, instances=random.choice([2, 3, 4]), callers=24 if slow else 36, busy_s=12.0, faults=faults,
        lost=random.choice([0.0, 0.02]), repeated=random.choice([0.0, 0.1]), cancels=seed % 16 < 8,
        stops_when_idle=seed % 3 == 0, lease_s=random.choice([1.0, 2.0, None]), one_project="p0",
    )  # fmt: skip
    clients = tuple(
        replace(client, kind=replace(kind, accounts=([*chosen, *((at,) for at in range(parts))][at % (2 + parts)])))
        for at, client in enumerate(plain.clients)
    )
    mergers = tuple(Merger(random.uniform(3.0, 5.0), pair) for pair in pairs)
    merging = replace(plain, clients=clients, deployments=(Deployment(before),), mergers=mergers, merged=after)
    return replace(merging, grid=grid_of(20_000, 250), busy_s=3 * BUSY_S, lease_s=None) if held else merging


def merged_while_held(seed: int) -> Scenario:
    """The seeds of `merged_projects` in which permits are held for seconds."""
    return merged_projects(4 * seed + 3)


def merged_while_exchanges_last(seed: int) -> Scenario:
    """The seeds of `merged_projects` in which slots are scarce, with exchanges that last longer than the merges."""
    plain = merged_projects(4 * seed)
    clients = (replace(client, kind=replace(client.kind, service_s=(1.0, 2.5))) for client in plain.clients)
    return replace(plain, clients=tuple(clients))


# -- Gemini refuses for a while ------------------------------------------------------------------------------------------

WINDOW_S = 3.0
PATIENT = replace(QUICK, patience_s=(1.0, 2.0), connect_s=(0.0, 0.0))
"""Callers that are rejected in a pause of any length, and return at the time of their Retry-After."""


def spell(
    seed: int, kind: Any, until_s: float, busy_s: float, *, requests: int | None = 20, **more: Any
) -> Scenario:  # fmt: skip
    """One spell from 2 s on, and callers with constant demand."""
    fields = {
        "limits": Limits(requests),
        "named": Limits(),
        "delay_s": None,
        "kinds": (PATIENT,),
        "model": "m0",
        **more,
    }
    random = Random(f"spell {seed}")
    clients = tuple(
        Client(f"c{at}", fields["kinds"][at % len(fields["kinds"])], 0.05, random.uniform(0, 1), busy_s)
        for at in range(9)
    )
    began_ms = fields.get("began_ms", float(DAY.start_ms) + 36_000_000)
    from_ms = began_ms + 2_000
    one = Spell(
        kind,
        "p0",
        fields["model"],
        from_ms,
        began_ms + 1000 * until_s,
        fields["named"],
        fields["delay_s"],
        until_s < busy_s,
    )
    plain = deployment(seed, PATIENT, fields["limits"], began_ms=began_ms)
    return replace(plain, busy_s=busy_s, clients=clients, spells=(one,), judges_spells=True)


def no_quota(seed: int) -> Scenario:
    """A limit of zero that ends between the second probe and the third; its refusals name a delay that is not true."""
    return spell(seed, "zero", 75.0, 105.0, delay_s=25.0)


def rejected_in_a_row(seed: int) -> Scenario:
    """Another consumer spends the whole quota per minute until after the second probe of an exhausted model."""
    return spell(seed, "rate", 75.0, 115.0)


def spent_too_much(seed: int) -> Scenario:
    """All models are stopped, for pauses of 1, 2, 4 and 8 windows."""
    other = replace(PATIENT, model="m1")
    return spell(seed, "spend", 40.0, 80.0, kinds=(PATIENT, other), model="")


def spent_too_much_for_a_time(seed: int) -> Scenario:
    return spell(seed, "spend", 12.0, 25.0, delay_s=5.0, model="")


def spent_day(seed: int) -> Scenario:
    """Before midnight; on the free tier its refusals name a delay of seconds."""
    began_ms = float(DAY.end_ms) - 20_000
    return spell(seed, "day", 20.0, 30.0, began_ms=began_ms, delay_s=4.0)


def lower_limit(seed: int) -> Scenario:
    """Tested after 10 windows and again after 20; between them Gemini relents."""
    return spell(seed, "lower", 60.0, 180.0, limits=Limits(10), named=Limits(requests=4), delay_s=1.0)


def lower_limit_that_stays(seed: int) -> Scenario:
    """Tested twice, after 10 windows and after 20 more."""
    return spell(seed, "lower", 112.0, 112.0, limits=Limits(10), named=Limits(requests=4), delay_s=1.0)


def lower_tokens(seed: int) -> Scenario:
    """A test may not exceed what is configured: a request is larger than what lies between the two limits."""
    kind = replace(PATIENT, tokens=(30, 50))
    return spell(
        seed, "lower", 20.0, 60.0, limits=Limits(input_tokens=200), named=Limits(input_tokens=180), kinds=(kind,)
    )  # fmt: skip


def embeddings(seed: int) -> Scenario:
    """Lists of mixed sizes to two models and single requests to both, over processes that freeze, die and lose messages. Which
    limit is the tightest differs by seed."""
    random = Random(f"embeddings {seed}")
    batches, c = random.choice([2, 4, 8, 15]), random.choice([2, 4, 8, 15])
    requests = [random.choice([None, 12, 40, 100]) for _ in range(2)]
    tokens = random.choice([None, None, 400, 3_000])
    per_day = random.choice([None, None, None, 60])
    limits = [Limits(amount, tokens, None, per_day, batches) for amount in requests]
    account = Account("a0", "p0", Secret("a0"), c, limits[0], {"m1": limits[1]})
    clients = []
    for at in range(random.choice([4, 9, 16])):
        model = random.randrange(2)
        most = min(12, requests[model] or 12, (tokens or 3_000) // 40)
        inputs = random.choice([(0, 0), (2, 3), (2, most), (most, most)])
        kind = replace(
            QUICK, model=f"m{model}", tokens=(1, 30), inputs=inputs, patience_s=random.choice([(1, 4), (3, 10)])
        )
        clients.append(Client(f"c{at}", kind, random.choice([0.0, 0.1, 0.5]), random.uniform(0, 2), BUSY_S))
    faults = (
        *troubles(seed, random.choice(["kill", "freeze"]), random.choice([0, 2, 4]), (0.3, 3.0)),
        *troubles(seed + 1, random.choice(["cut", "refuse", "freeze"]), random.choice([0, 2]), (0.2, 2.0)),
    )
    plain = deployment(
        seed, QUICK, limits[0], instances=random.choice([1, 2, 3, 5]), faults=faults, lost=0.02, repeated=0.02
    )
    return replace(plain, deployments=(Deployment((account,)),), clients=tuple(clients))


def scarce_batches(seed: int) -> Scenario:
    """Lists to two models, which share a scarce quota of batches; every other seed the requests in them are scarce."""
    scarce = seed % 2 == 0
    limits = Limits(None if scarce else 12, batches=4 if scarce else 15)
    account = Account("a0", "p0", Secret("a0"), 8, limits, {"m1": limits})
    kinds = [replace(QUICK, model=f"m{at % 2}", inputs=(2, 4)) for at in range(12)]
    clients = tuple(Client(f"c{at}", kind, 0.02, 0.1 * at, BUSY_S) for at, kind in enumerate(kinds))
    return replace(deployment(seed, QUICK, limits), deployments=(Deployment((account,)),), clients=clients)
