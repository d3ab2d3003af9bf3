"""Runs a scenario: instances start, stop and fail, callers send requests, and everything that happens is recorded."""

from __future__ import annotations

import asyncio
import logging
import random as global_random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random

from shared.accounts.account import Account
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.admission.merge_ledgers import merge_ledgers
from shared.errors import GatewayError
from shared.generation import Caller
from shared.ledger.packing import unpack
from shared.ledger.state import State
from shared.stores.port import StoreError
from tests.simulation.bounds import bounds
from tests.simulation.caller import Request, Story
from tests.simulation.contention import Contention
from tests.simulation.history import FOREVER, Call, Fate, History, Saturation
from tests.simulation.instance import Ends, Instance, Waiting, configured, hand_over, read_accounts
from tests.simulation.loop import Process, VirtualLoop, virtual_clocks
from tests.simulation.scenario import Client, Deployment, Merger, Reconfiguration, Scenario
from tests.simulation.store import Network, StoreServer, VirtualStore
from tests.simulation.trouble import Trouble
from tests.simulation.upstream import VirtualGemini

START_S = (0.1, 0.5)
"""Time from the decision to start an instance to its first request."""
DRAIN_S = 10.0
LOCAL_LINGER_S = 1.0
MERGED_WITHIN_S = 1.5
"""After this time another instance tries to merge two ledgers."""


class World:
    """One scenario on one virtual clock. `run` executes it, `history` is the record."""

    def __init__(self, scenario: Scenario, trace: Callable[[str], None] | None = None) -> None:
        self.scenario, self.trace = scenario, trace
        self.loop = VirtualLoop()
        self.random = Random(f"world {scenario.seed}")
        self.grid = scenario.grid
        contention = Contention(Random(f"store {scenario.seed}"), scenario.commit_s, scenario.max_waiting_commits)
        self.server = StoreServer(self.loop, scenario.began_ms, contention)
        self.network = Network(
            Random(f"network {scenario.seed}"),
            scenario.delay_s,
            lost=scenario.lost,
            repeated=scenario.repeated,
            late=scenario.late,
        )
        self.gemini = VirtualGemini(
            self.loop,
            Random(f"gemini {scenario.seed}"),
            scenario.began_ms,
            scenario.grid.window_ms / 1000,
            pressure=scenario.pressure,
            cancels=scenario.cancels,
            aliases=dict(scenario.aliases),
            one_project=scenario.one_project,
            rivals=list(scenario.rivals),
            spells=list(scenario.spells),
        )
        self.ends = Ends()
        self.instances: list[Instance] = []
        self.errors: list[str] = []
        self.calls: list[Call] = []
        self.trouble = Trouble(self)
        if scenario.mergers:
            self.server.on_commit.append(self._merged)
        self._started: dict[str, tuple[Deployment, float, float | None]] = {}
        self._named: dict[tuple[str, str], float] = {}
        self._read: tuple[Account, ...] = ()
        """The newest configuration, which new instances read."""
        self._wanted = 0
        self._numbers = 0

    # -- from without ------------------------------------------------------------------------------------------------

    @contextmanager
    def entered(self) -> Iterator[World]:
        """While entered, time is virtual, and random numbers come from the seed."""
        state, logger, handler = global_random.getstate(), logging.getLogger("shared"), _Collector(self)
        level = logger.level
        global_random.seed(f"processes {self.scenario.seed}")
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING if self.trace else logging.ERROR)
        logger.propagate = False
        try:
            with virtual_clocks(self.loop, self.scenario.began_ms / 1000):
                yield self
                self.loop.close()
                said = [*self.errors]
                for process in (instance.process for instance in self.instances):
                    process.bury()
                self.errors = said
        finally:
            self.loop.close()
            logger.propagate = True
            logger.setLevel(level)
            logger.removeHandler(handler)
            global_random.setstate(state)

    def begin(self) -> None:
        """Put the whole scenario on the clock."""
        scenario = self.scenario
        for at_s, count in scenario.population:
            self.loop.post(at_s, self._populate, count)
        for fault in scenario.faults:
            self.loop.post(fault.at_s, self.trouble.strike, fault)
        for change in scenario.reconfigurations:
            self.loop.post(change.at_s, self._reconfigure, change)
        for merger in scenario.mergers:
            self.loop.post(merger.at_s, self._begin_merge, merger)
        for client in scenario.clients:
            self.loop.post(client.from_s, self._begin_client, client)
        self.loop.post(scenario.busy_s, self.trouble.end)

    def history(self) -> History:
        return History(
            window_ms=self.grid.window_ms,
            exchanges=self.gemini.exchanges(),
            calls=tuple(self.calls),
            bounds=tuple(bounds(self.scenario, self._started.values(), self._models())),
            disturbances=tuple(self.trouble.disturbances),
            refused=tuple(self.gemini.refused),
            saturations=tuple(self._saturations()),
            spells=self.scenario.spells if self.scenario.judges_spells else (),
        )

    def ledgers(self) -> dict[str, State]:
        states = {key.removeprefix("ledger/"): unpack(doc.value) for key, doc in self.server.docs.items() if doc.value}
        return {ledger: state for ledger, state in states.items() if not state.moved}

    def named_ms(self, project: str, asked: str) -> float:
        """When the ledger first knew as which model the id `asked` is metered, as far as earlier checks showed."""
        doc = self.server.value(f"ledger/{project}") if self.scenario.known is not None else None
        if doc and asked in unpack(doc).names:
            self._named.setdefault((project, asked), self.now_ms())
        return self._named.get((project, asked), FOREVER)

    def now_ms(self) -> float:
        return self.server.now_ms()

    def say(self, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.loop.now_s:9.3f}  {what}")

    # -- instances ---------------------------------------------------------------------------------------------------

    def living(self) -> list[Instance]:
        return [i for i in self.instances if not i.process.killed and not i.leaving]

    def start(self) -> Instance:
        scenario = self.scenario
        name = f"i{len(self.instances)}"
        drift = self.random.uniform(-scenario.drift, scenario.drift)
        process = Process(self.loop, name, drift=drift, boot_s=self.random.uniform(1_000, 1_000_000))
        deployment = [d for d in scenario.deployments if d.from_s <= self.loop.now_s][-1]
        config = ProcessConfig(
            name,
            self.grid,
            scenario.tau_s,
            scenario.lease_s,
            linger_s=LOCAL_LINGER_S if scenario.local else 0.0,
            holds_on=scenario.holds_on,
            cancels=scenario.cancels,
            known=scenario.known,
        )
        self.loop.current = process
        try:
            admission = Admission(
                VirtualStore(self.server, self.network, process),
                config,
                AdmissionConfig(queue_timeout_s=scenario.queue_timeout_s),
                self.ends if scenario.local else None,
            )
        finally:
            self.loop.current = None
        instance = Instance(process, admission, deployment, self._read or deployment.accounts)
        self.instances.append(instance)
        self._started[name] = (deployment, self.now_ms(), None)
        self.say(f"{name} starts")
        return instance

    def _populate(self, count: int) -> None:
        self._wanted = count
        self._replace_old()
        living = self.living()
        for _ in range(count - len(living)):
            self.start()
        for instance in living[count:]:
            self._retire(instance)

    def _replace_old(self) -> None:
        """Replace the old deployment: its instances are retired one by one over the next seconds."""
        newest = [d for d in self.scenario.deployments if d.from_s <= self.loop.now_s][-1]
        for instance in self.living():
            if instance.deployment is not newest and self.random.random() < 0.5:
                self._retire(instance)

    def _begin_merge(self, merger: Merger) -> None:
        """By any instance; one that does not finish is followed by another."""
        living = self.living()
        if living and not self._is_merged(merger):
            instance = self.random.choice(living)
            instance.process.thaw("idle")
            instance.process.spawn(self._merge(instance, merger))
        if not self._is_merged(merger):
            self.loop.post(MERGED_WITHIN_S, self._begin_merge, merger)

    def _is_merged(self, merger: Merger) -> bool:
        doc = self.server.value(f"ledger/{max(merger.ledgers)}")
        return bool(doc) and bool(unpack(doc or b"").moved)

    async def _merge(self, instance: Instance, merger: Merger) -> None:
        try:
            await merge_ledgers(instance.admission.store, *merger.ledgers, self.grid.window_ms)
        except StoreError as error:
            self.say(f"{instance.process.name} merges nothing: {error}")

    def _merged(self, key: str, value: bytes | None) -> None:
        """After the last merge every instance reads the limits of the whole project."""
        if value and unpack(value).moved and all(self._is_merged(merger) for merger in self.scenario.mergers):
            self.say("all ledgers are merged")
            self.loop.post(0.0, self._reconfigure, Reconfiguration(self.scenario.merged, 0.0, 0.2))

    def _reconfigure(self, change: Reconfiguration) -> None:
        self._read = change.accounts
        for at, instance in enumerate(self.instances):
            if at not in change.unread_by:
                self.loop.post(self.random.uniform(0.0, change.within_s), read_accounts, instance, change.accounts)

    def _retire(self, instance: Instance) -> None:
        instance.leaving = True
        self.say(f"{instance.process.name} is asked to end")
        instance.process.thaw("idle")
        instance.process.spawn(self._end(instance))

    async def _end(self, instance: Instance) -> None:
        end_s = self.loop.now_s + DRAIN_S
        while instance.calls and self.loop.now_s < end_s:  # noqa: ASYNC110 - as a server waits that was asked to end
            await asyncio.sleep(0.1)
        await instance.admission.aclose()
        self.loop.post(0.0, self.kill, instance)

    def kill(self, instance: Instance) -> None:
        """Kill the instance now. A local process closes its sockets; other exchanges end at Gemini at their deadlines."""
        process = instance.process
        if process.killed:
            return
        self.say(f"{process.name} ends with {len(instance.calls)} calls")
        process.kill()
        self.ends.gone_names.add(process.name)
        deployment, from_ms, _ = self._started[process.name]
        self._started[process.name] = (deployment, from_ms, self.now_ms())
        if self.scenario.local:
            for request in self.gemini.sent:
                if request.instance == process.name:
                    self.gemini.close(request)
        for waiting in list(instance.calls.values()):
            self._heard(instance, waiting, "lost", "", None)
        if len(self.living()) < self._wanted:
            self.loop.post(self.random.uniform(*START_S), self._top_up)

    def _top_up(self) -> None:
        if len(self.living()) < self._wanted:
            self.start()

    # -- callers -----------------------------------------------------------------------------------------------------

    def _begin_client(self, client: Client) -> None:
        self.loop.create_task(self._live(client))

    async def _live(self, client: Client) -> None:
        chance = Random(f"client {self.scenario.seed} {client.name}")
        while self.loop.now_s < client.until_s:
            ask = self._ask(client, chance)
            heard = await self.ask(ask, client.home)
            if heard.retry_after_s is not None and client.obeys_retry_after:
                await asyncio.sleep(min(heard.retry_after_s, self.scenario.busy_s))
            think_s = client.think_s * chance.expovariate(1.0) if client.think_s else 0.0
            await asyncio.sleep(max(think_s, 0.01 if heard.fate == "answered" else 0.2))

    def _ask(self, client: Client, chance: Random) -> Request:
        kind = client.kind
        cost = kind.cost(chance)
        newest = [d for d in self.scenario.deployments if d.from_s <= self.loop.now_s][-1]
        accounts = [newest.accounts[at] for at in kind.accounts]
        hurried = chance.random() < kind.leaves
        return Request(
            accounts=accounts,
            caller=Caller(client.name, "caller_key" if accounts[0].caller_key else "admin"),
            model=kind.model,
            cost=cost,
            used_tokens=max(1, int(cost.input_tokens * chance.uniform(*kind.used))),
            patience_s=chance.uniform(*kind.patience_s),
            service_s=chance.uniform(*kind.service_s),
            batch=kind.batch,
            hangs=chance.random() < kind.hangs,
            connect_s=max(0.0, chance.uniform(*kind.connect_s)),
            body_s=chance.uniform(0.05, 1.5) if chance.random() < kind.slow_body else 0.0,
            uncounted=kind.uncounted > 0 and chance.random() < kind.uncounted,
            leaves_after_s=chance.choice([0.0, 0.01, 0.1, 0.5, 2.0]) * chance.random() if hurried else None,
        )

    async def ask(self, ask: Request, home: int = -1) -> Call:
        """One call, from its arrival at an instance until the caller gets the outcome."""
        living = self.living()
        if not living:
            await asyncio.sleep(self.random.uniform(*START_S))
            living = self.living() or [self.start()]
        instance = living[home % len(living)] if home >= 0 else self.random.choice(living)
        self._numbers += 1
        waiting = Waiting(ask, self._numbers, self.now_ms(), self.loop.create_future())
        instance.calls[waiting.number] = waiting
        instance.process.thaw("idle")
        waiting.story = Story(
            ask,
            waiting.number,
            instance.admission,
            self.gemini,
            instance.process.name,
            partial(configured, instance, ask),
            self.named_ms,
        )
        waiting.task = instance.process.spawn(self._serve(instance, waiting, waiting.story))
        # A caller that disconnects before the first step of its task leaves no record.
        waiting.task.add_done_callback(lambda _: self._heard(instance, waiting, "left", "", None))
        if ask.leaves_after_s is not None:
            self.loop.post(ask.leaves_after_s, waiting.task.cancel)
        return await waiting.heard

    async def _serve(self, instance: Instance, waiting: Waiting, story: Story) -> None:
        try:
            await story.run()
            self._heard(instance, waiting, "answered", "", None)
        except GatewayError as error:
            self._heard(instance, waiting, "refused", error.code, error.retry_after_s)
        except asyncio.CancelledError:
            self._heard(instance, waiting, "left", "", None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.errors.append(f"call {waiting.number} at {instance.process.name}: {error!r}")
            self._heard(instance, waiting, "refused", "bug", None)

    def _heard(self, instance: Instance, waiting: Waiting, fate: Fate, code: str, retry_after_s: float | None) -> None:
        if instance.calls.pop(waiting.number, None) is None:
            return
        ask, story = waiting.ask, waiting.story
        self.say(f"{instance.process.name} call {waiting.number} of {ask.caller.id}: {fate} {code}")
        call = Call(
            waiting.number, instance.process.name, ask.caller.id, ask.model,
            tuple(dict.fromkeys(map(self.gemini.project_of, ask.accounts))),
            ask.cost, ask.batch, waiting.came_ms, waiting.came_ms + ask.patience_s * 1000, self.now_ms(),
            fate, code, retry_after_s, story.served_ms if story is not None else None,
        )  # fmt: skip
        self.calls.append(call)
        self.loop.post(0.0, hand_over, waiting.heard, call)
        if self.scenario.stops_when_idle and not instance.calls and not instance.leaving:
            self.loop.post(0.0, self._stop_if_idle, instance)

    @staticmethod
    def _stop_if_idle(instance: Instance) -> None:
        if not instance.calls and not instance.leaving:
            instance.process.freeze("idle")

    # ----------------------------------------------------------------------------------------------------------------

    def _models(self) -> list[str]:
        return sorted({name for e in self.gemini.sent for name in (e.work.model, e.work.booked) if name})

    def _saturations(self) -> Iterator[Saturation]:
        claim = self.scenario.saturated
        if claim is not None:
            names = tuple(instance.process.name for instance in self.instances)
            from_ms, until_ms = (self.scenario.began_ms + 1000 * s for s in (claim.from_s, claim.until_s))
            yield Saturation(
                claim.project, claim.model, from_ms, until_ms, self.grid.best_use(), names, claim.callers
            )  # fmt: skip


class _Collector(logging.Handler):
    """Collects log records: errors are findings, warnings are part of the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._world.errors.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")
        process = self._world.loop.current
        self._world.say(f"{process.name if process else ''} logs: {record.getMessage()}")
