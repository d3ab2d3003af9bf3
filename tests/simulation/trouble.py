"""The faults of a world: outages of the store, processes that are killed, frozen or cut off, and wall clocks that step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Disturbance
from tests.simulation.scenario import Fault

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.world import World


class Trouble:
    """Faults strike as they are drawn; every one is recorded."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disturbances: list[Disturbance] = []

    def strike(self, fault: Fault) -> None:
        world = self.world
        if fault.kind in ("refuse", "overloaded", "hang", "mute"):
            self._record(fault, "", fault.length_s)
            world.network.outage = fault.kind
            world.loop.post(fault.length_s, self._end_outage)
            return
        living = world.living()
        if living:
            victim = living[int(fault.victim * len(living))]
            if fault.step:
                strikes = victim.process.strikes.setdefault(victim.process.steps + fault.step, [])
                strikes.append(lambda: self._befall(fault, victim))
            else:
                self._befall(fault, victim)

    def _befall(self, fault: Fault, victim: Instance) -> None:
        world, process = self.world, victim.process
        length_s = min(fault.length_s, world.scenario.busy_s - world.loop.now_s)
        if length_s <= 0:
            return
        self._record(fault, process.name, length_s)
        match fault.kind:
            case "kill":
                world.kill(victim)
            case "freeze":
                process.freeze("fault")
                world.loop.post(length_s, process.thaw, "fault")
            case "cut":
                world.network.cut.add(process.name)
                world.loop.post(length_s, world.network.cut.discard, process.name)
            case "wall":
                process.wall_step_s += 300.0 if fault.victim < 0.5 else -300.0

    def end(self) -> None:
        """End all faults."""
        world = self.world
        world.network.lost = world.network.repeated = world.network.late = 0.0
        world.gemini.pressure = 0.0
        world.gemini.rivals.clear()
        world.gemini.spells.clear()
        self._end_outage()

    def _end_outage(self) -> None:
        self.world.network.outage = ""

    def _record(self, fault: Fault, instance: str, length_s: float) -> None:
        world = self.world
        world.say(f"{fault.kind} {instance} for {length_s:.2f} s")
        now_ms = world.now_ms()
        self.disturbances.append(Disturbance(fault.kind, now_ms, now_ms + length_s * 1000, instance))
