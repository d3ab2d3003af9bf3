"""The record of a stored batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.batch.record import LEASE_MS, BatchRecord
from shared.media.names import is_name

RECORD = BatchRecord("ab" * 16, "digest", 20, 1_000, 9_000_000, {"model": "m"})


def test_a_batch_runs_while_its_lease_lasts() -> None:
    taken = RECORD.taken(5_000)
    assert (RECORD.state(5_000), taken.epoch) == ("open", 1)
    assert (taken.state(5_000 + LEASE_MS - 1), taken.state(5_000 + LEASE_MS)) == ("running", "open")
    assert taken.released().state(5_000) == "open"


@given(st.lists(st.sets(st.integers(0, 19), min_size=1), max_size=5))
def test_segments_mark_their_items_as_done(segments: list[set[int]]) -> None:
    record, all_done = RECORD.taken(0), set[int]()
    for indexes in segments:
        record = record.with_segment(sorted(indexes), 0, 0)
        all_done |= indexes
    assert record.done_indexes() == all_done
    assert record.done_count == sum(map(len, segments))
    assert BatchRecord.unpack(record.pack()) == record


def test_a_batch_is_done_when_all_items_have_a_result() -> None:
    record = RECORD.taken(0).with_segment(range(20), 3, 0)
    assert (record.state(0), record.failed) == ("done", 3)


def test_carriers_of_two_epochs_write_different_objects() -> None:
    """A carrier that was frozen must not replace what another one has stored."""
    first, second = RECORD.taken(0), RECORD.taken(0).taken(LEASE_MS)
    assert first.segment_object(0) != second.segment_object(0)
    stored = second.with_segment([1], 0, 0).taken(0)
    assert stored.segment_object(0) == second.segment_object(0)
    names = {first.segment_object(0), second.segment_object(0), first.segment_object(1), first.items_object()}
    assert len(names) == 4 and all(map(is_name, names))
