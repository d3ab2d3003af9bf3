"""A cell of the exactness board from end to end, with a minute of one second: it is measured, and judged."""

from __future__ import annotations

import pytest

from tests.benchmarks.board.cells import CELLS, PROCESSES, plan
from tests.benchmarks.board.run import run_cell


@pytest.mark.heavy
async def test_a_cell_is_measured_from_end_to_end(firestore_host: str) -> None:
    """Four processes, a proxy and an offline Gemini; 40 requests a second for 4 s, 9 s in all."""
    cell = CELLS["4000-60"]
    result = await run_cell(cell, plan(cell, window_s=1.0, measure_s=240), firestore_host)
    figures = result.figures
    assert result.failures == {}
    assert figures.refused == 0
    assert 0 < figures.worst_window <= figures.limit == 67
    assert figures.requests > 0
    assert figures.processes.mean * PROCESSES > figures.callers.mean > 0
    assert min(figures.writes_per_request, figures.reads_per_request, figures.step_ms, figures.state_bytes) > 0
    assert sum(result.series.per_s) > 0
