"""Verdicts on times in which Gemini refuses, on histories made by hand; and one scenario of a project without quota."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import Kind
from tests.simulation.history import Exchange, History, Spell
from tests.simulation.spells import AGAIN, ASKED, SERVED, spells_judged
from tests.simulation.test_regressions import account, story

WINDOW_MS = 1_000


def judged(kind: Kind, refused_s: Sequence[float], served_s: Sequence[float], until_s: float) -> dict[str, bool]:
    """By promise, whether it was kept: requests that arrived at these times in a spell that began at 0."""
    arrived = [(at, 429) for at in refused_s] + [(at, 200) for at in served_s]
    exchanges = [
        Exchange("p", "m", "i", "c", Cost(1, 1), 1000 * at, 1000 * at, 1000 * at, 1, status)
        for at, status in sorted(arrived)
    ]
    spell = Spell(kind, "p", "m", 0.0, 1000 * until_s, Limits(requests=1))
    return {v.promise: v.ok for v in spells_judged(History(WINDOW_MS, tuple(exchanges), spells=(spell,)))}


@pytest.mark.parametrize(
    ("kind", "refused_s", "served_s", "until_s", "broken"),
    [
        ("zero", [0, 0.1, 15.2], [30.4], 20, set()),
        ("zero", [0, 0.1, 7.0, 15.2], [30.4], 20, {ASKED}),
        ("zero", [0, 19.0], [35.0], 20, {AGAIN}),
        ("zero", [0, 15.2], [40.0], 20, {SERVED}),
        ("zero", [0, 15.2, 15.3], [30.4], 20, {ASKED}),
        ("spend", [0, 1.2, 3.4, 7.6], [15.8], 10, set()),
        ("spend", [0, 1.2, 2.4], [5.0], 3, {ASKED}),
        ("spend", [0, 1.2], [9.0], 9, {AGAIN}),
        ("rate", [0, 1.2, 2.4, 17.6], [32.9], 20, set()),
        ("rate", [0, 1.2, 2.4, 3.6], [32.9], 20, {ASKED}),
        ("rate", [0, 1.2, 2.4], [40.0], 20, {SERVED}),
        ("day", [0, 0.2], [20.3], 20, set()),
        ("day", [0, 5.0], [20.3], 20, {ASKED}),
        ("day", [0], [25.0], 20, {SERVED}),
    ],
)
def test_a_spell_is_judged_by_what_arrived(
    kind: Kind, refused_s: list[float], served_s: list[float], until_s: float, broken: set[str]
) -> None:
    verdicts = judged(kind, refused_s, served_s, until_s)
    assert {promise for promise, ok in verdicts.items() if not ok} == broken


def test_project_without_quota_is_probed_every_15_windows() -> None:
    """Before, it was not probed for an hour, and callers got errors about midnight and about too large requests."""
    project = account(requests=20)
    with story(project, instances=2) as told:
        began_ms = told.world.now_ms()
        told.world.gemini.spells.append(Spell("zero", "p0", "m0", began_ms, began_ms + 70_000, delay_s=25.0))
        first, second = told.asks(project, at=0), []
        told.passes(2.0)
        for _ in range(5):
            second = told.asks(project, at=1)
            told.passes(1.0)
        for call in (*first, *second):
            assert (call.fate, call.code) == ("refused", "no_quota")
        assert first[0].retry_after_s == pytest.approx(60, abs=1)
        assert second[0].retry_after_s == pytest.approx(54, abs=1.5)
        assert len(told.world.gemini.sent) == 1
        told.passes(55.0)
        assert told.asks(project, at=1, patience_s=1.0) == []
        told.passes(1.0)
        assert len(told.world.gemini.sent) == 2
        told.passes(61.0)
        answered = [told.asks(project, at=at) for at in (0, 1)]
        told.passes(3.0)
        assert [calls[0].fate for calls in answered] == ["answered"] * 2
        assert told.failures() == []
