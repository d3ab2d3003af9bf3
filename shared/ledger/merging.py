"""Two documents of one Google project become one: the survivor takes over what the other one holds, and that one is closed. Pure.

Both are written by one commit. The closed document names the survivor for good: it is the record of the merge. An instance that
still writes to it gets this name as its answer (`RenewResult.moved`) and follows. Ledgers merge towards the id that sorts first,
so that no two documents ever name each other.

What instances hold of the closed document stays valid. Their leases move as they are, under another name: an instance may have a
lease of each document, and it uses the moved one like a second instance until that is empty.
"""

from __future__ import annotations

from shared.ledger.names import merge_sections, merged_section
from shared.ledger.state import Circuit, RenewResult, State

OWNED = "@"
"""Between an instance's id and the ledger of a lease that was moved."""


def lease_name(instance: str, closed: str) -> str:
    """The name of an instance's lease that was moved out of the ledger `closed`; a lease that moves again keeps its name."""
    return instance if OWNED in instance else f"{instance}{OWNED}{closed}"


def instance_of(lease: str) -> str:
    """The id of the instance that has the lease."""
    return lease.partition(OWNED)[0]


def survivor_of(ledger: str, other: str) -> tuple[str, str]:
    """Which of two ledgers survives, and which is closed."""
    return min(ledger, other), max(ledger, other)


def merge(survivor: State, closed: State, closed_id: str, survivor_id: str) -> State:
    """Add all of `closed` to `survivor`, and return the document that takes the place of `closed`.

    However much both had granted before, nothing more is granted until the window has room again. Raises ValueError if their
    windows differ, or if one of them was closed before."""
    if survivor.window_ms != closed.window_ms:
        raise ValueError("two ledgers with windows of different lengths cannot be merged")
    if survivor.moved or closed.moved:
        raise ValueError("a closed ledger cannot be merged: merge the one that it names")
    survivor.now_ms = max(survivor.now_ms, closed.now_ms)
    for name, lease in closed.leases.items():
        survivor.leases[lease_name(name, closed_id)] = lease
    for circuit in (closed.spend, *(section.circuit for section in closed.sections.values())):
        circuit.owner = lease_name(circuit.owner, closed_id) if circuit.owner else ""
    for model, section in closed.sections.items():
        known = survivor.sections.get(model)
        survivor.sections[model] = section if known is None else merged_section(known, section)
    for section in survivor.sections.values():
        # The other consumer that spent the same quota was the other ledger; if there is one more, Gemini's next 429 shows it.
        section.outside = {}
    for name, metered in closed.names.items():
        survivor.names[name] = max(metered, survivor.names.get(name, metered), key=lambda one: one.until_ms)
    merge_sections(survivor)
    if closed.pressure_ms:
        known_c = survivor.pressure_c if survivor.pressure_ms else closed.pressure_c
        survivor.pressure_c = min(known_c, closed.pressure_c)
        survivor.pressure_ms = max(survivor.pressure_ms, closed.pressure_ms)
    survivor.spend = _stricter(survivor.spend, closed.spend)
    survivor.accepted = survivor.accepted or closed.accepted
    return State(closed.window_ms, survivor.now_ms, moved=survivor_id)


def _stricter(circuit: Circuit, other: Circuit) -> Circuit:
    return max(circuit, other, key=lambda one: one.open_until_ms)


def refer(state: State) -> RenewResult:
    """The answer of a closed document: nothing is granted or settled, and the same message is due at the survivor."""
    return RenewResult(0, 0, False, 1, 0, {}, moved=state.moved, fresh=False)
