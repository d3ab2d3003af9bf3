"""Defects in the circuits that stop requests after a 429, and in their probes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.admission.project import ProjectClient
from shared.gateway import failures as refusal
from shared.ledger import batches, circuit, step, throttling
from shared.ledger.limits import Limits
from tests.simulation.mutant import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import (
    lower_limit,
    lower_limit_that_stays,
    lower_tokens,
    no_quota,
    rejected_in_a_row,
    spent_day,
    spent_too_much,
    spent_too_much_for_a_time,
)
from tests.simulation.spells import AGAIN, ASKED, SERVED

TOKENS = "tokens in any window"


def with_rule(kind: Any, scenario: Scenario, **changes: Any) -> Any:
    rules = {**circuit.RULES, kind: circuit.RULES[kind]._replace(**changes)}
    return patched(scenario, (circuit, "RULES", rules), (refusal, "RULES", rules))


def taken_for(wrong: str, kind: str, scenario: Scenario) -> Any:
    right = refusal.kind_of

    def mistaken(failure: Any) -> str:
        found = right(failure)
        return wrong if found == kind else found

    return patched(scenario, (refusal, "kind_of", mistaken))


def everybody_probes(scenario: Scenario) -> Any:
    right = step.claim_probe

    def wrong(circuits: Any, *rest: Any) -> Any:
        for one in circuits:
            circuit.release(one)
        return right(circuits, *rest)

    return patched(scenario, (step, "claim_probe", wrong))


def spend_stops_one_model(scenario: Scenario) -> Any:
    right = ProjectClient.refuse

    def wrong(self: ProjectClient, refusal: Any) -> None:
        right(self, replace(refusal, kind="zero" if refusal.kind == "spend" else refusal.kind))

    return patched(scenario, (ProjectClient, "refuse", wrong))


def lower_limits_ignored(scenario: Scenario) -> Any:
    return patched(scenario, (step, "lowered_limits", lambda section, configured, now_ms, grid: configured))


def lower_limits_never_tested(scenario: Scenario) -> Any:
    return patched(scenario, (batches, "tested_limits", lambda section, limits, configured, costs, now_ms: limits))


def tests_exceed_what_is_configured(scenario: Scenario) -> Any:
    right = batches.tested_limits

    def wrong(section: Any, limits: Any, configured: Any, costs: Any, now_ms: int) -> Any:
        return right(section, limits, Limits(), costs, now_ms)

    return patched(scenario, (batches, "tested_limits", wrong))


def passed_tests_raise_nothing(scenario: Scenario) -> Any:
    return patched(scenario, (throttling, "note_dispatched", lambda lowered, amount, now_ms, grid: None))


def rejections_not_counted(scenario: Scenario) -> Any:
    return patched(scenario, (circuit, "is_full", lambda one, exhaustion: False))


_SHAPED = (
    Mutant("rejections in a row are not counted", rejections_not_counted, 100, rejected_in_a_row, ASKED),
    Mutant("an exhausted model is not asked again", lambda s: patched(s, (circuit, "FULL_PAUSE", 99)), 100,
           rejected_in_a_row, AGAIN),
    Mutant("a zero is not asked about again", lambda s: with_rule("zero", s, pause=99, min_pause=99, max_pause=99),
           100, no_quota, AGAIN),
    Mutant("a zero lasts until midnight", lambda s: taken_for("day", "zero", s), 100, no_quota, AGAIN),
    Mutant("a zero's own delay is believed", lambda s: with_rule("zero", s, believes_delay=True), 100, no_quota, ASKED),
    Mutant("every instance sends the probe", everybody_probes, 100, spent_too_much, ASKED),
    Mutant("a stop for spend stops one model", spend_stops_one_model, 100, spent_too_much, ASKED),
    Mutant("pauses for spend do not grow", lambda s: with_rule("spend", s, growth=1), 100, spent_too_much, ASKED),
    Mutant(
        "pauses for spend grow without bound", lambda s: with_rule("spend", s, growth=8, max_pause=999), 100,
        spent_too_much, AGAIN,
    ),
    Mutant(
        "the delay of a stop for spend is not believed", lambda s: with_rule("spend", s, believes_delay=False), 100,
        spent_too_much_for_a_time, ASKED,
    ),
    Mutant("a day's delay is believed", lambda s: taken_for("rate", "day", s), 100, spent_day, ASKED),
    Mutant("a lower limit is ignored", lower_limits_ignored, 100, lower_limit, ASKED),
    Mutant("a lower limit is never tested", lower_limits_never_tested, 100, lower_limit, AGAIN),
    Mutant(
        "a refused test does not lengthen the pause", lambda s: with_rule("lower", s, growth=1), 100, lower_limit_that_stays,
        ASKED,
    ),
    Mutant("a passed test raises nothing", passed_tests_raise_nothing, 100, lower_limit, SERVED),
    Mutant("a test exceeds what is configured", tests_exceed_what_is_configured, 100, lower_tokens, TOKENS),
)  # fmt: skip
CIRCUITS = tuple(replace(mutant, among_seeds=False) for mutant in _SHAPED)
"""Probes are judged only where demand lasts, which it does not in an ordinary seed."""
