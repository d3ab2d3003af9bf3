"""A cell of the exactness board from end to end, with a minute of one second: it is measured, and judged."""

from __future__ import annotations

from tests.benchmarks.board.cells import CALLERS, CELLS, PROCESSES, plan
from tests.benchmarks.board.run import run_cell


async def test_a_cell_is_measured_from_end_to_end(firestore_host: str) -> None:
    """Four processes, a proxy and an offline Gemini; 8 s."""
    cell = CELLS["4000-saturated"]
    result = await run_cell(cell, plan(cell, window_s=1.0, measure_s=60), firestore_host)
    figures = result.figures
    assert result.failures == {}
    assert (figures.refused, figures.errors) == (0, 0)
    assert 0 < figures.worst_window <= figures.limit == 67
    assert 0 < figures.used <= 1
    assert figures.callers.mean * PROCESSES * CALLERS == figures.processes.mean * PROCESSES > 0
    assert min(figures.writes_per_request, figures.reads_per_request, figures.step_ms, figures.state_bytes) > 0
    assert sum(result.series.per_s) > 0
