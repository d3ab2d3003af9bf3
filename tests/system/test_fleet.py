"""Twelve deployed instances behind one load balancer: what they send to Gemini, and what they cost the ledger."""

from __future__ import annotations

import logging

import pytest

from tests.benchmarks.board.fleets import FLEETS, run_processes
from tests.simulation.fleet import goals

log = logging.getLogger(__name__)


@pytest.mark.heavy
async def test_twelve_instances_use_one_limit(firestore_host: str) -> None:
    """300 requests a minute, 15 at once, 64 callers: a first minute, then one that is measured; 3 min."""
    cell = FLEETS["processes-12-300-15-saturated"].cell
    measured = await run_processes(cell, firestore_host)
    figures = measured.figures
    log.info("%s; answers: %s", figures, dict(measured.answers))
    assert figures.rejected == 0
    assert min(figures.sizes) > 0, "an instance served nothing"
    assert measured.answers.keys() <= {"answered", "429 queue_timeout"}
    # At least 97 % of the limit, within the ledger's load and every limit.
    assert {goal.name: goal.value for goal in goals(cell, figures) if not goal.met} == {}
