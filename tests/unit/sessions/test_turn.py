"""A turn's arrows, its fence, its tickets, and the ids of its events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.sessions.session import Answer
from shared.sessions.turn import (
    END_AT,
    MAX_ANSWER_BYTES,
    MAX_TICKETS,
    TICKET_MS,
    USAGE_AT,
    EventId,
    Ticket,
    Turn,
    ended,
    holds,
    lost,
    published,
    read_at,
    released,
    started,
    with_ticket,
    with_used_ticket,
)

PENDING = Turn("owner", "session", 0, 3)
STREAMING = started(PENDING, "a", "fence", deadline_ms=1000)


def ticket(fingerprint: str) -> Ticket:
    return Ticket(fingerprint, "name:a", "admin")


DONE = ended(STREAMING, Answer("done", "Hello", ended_ms=500))


def test_start_makes_a_pending_turn_streaming() -> None:
    assert (STREAMING.state, STREAMING.instance, STREAMING.fence) == ("streaming", "a", "fence")


@pytest.mark.parametrize("state", ["done", "stopped", "interrupted"])
def test_end_keeps_state_and_time_but_no_text(state: str) -> None:
    answer = Answer(state, "Hello", ended_ms=500)  # type: ignore[arg-type]
    after = ended(published(STREAMING, "Hel"), answer, "fence")
    assert (after.state, after.text, after.ended_ms, after.over) == (state, "", 500, True)


def test_release_makes_a_turn_pending_with_its_error() -> None:
    after = released(STREAMING, {"code": "queue_timeout"})
    assert (after.state, after.instance, after.error) == ("pending", "", {"code": "queue_timeout"})
    assert started(after, "b", "other", 2000).error is None


def test_stop_ends_a_turn_that_nobody_started() -> None:
    assert ended(PENDING, Answer("stopped", "")).state == "stopped"


def test_a_turn_past_its_deadline_reads_as_interrupted() -> None:
    assert read_at(STREAMING, 999) is STREAMING
    assert (read_at(STREAMING, 1000).state, read_at(STREAMING, 1000).ended_ms) == ("interrupted", 1000)


def test_only_a_streaming_turn_passes_its_deadline() -> None:
    assert read_at(PENDING, 10**9) is PENDING
    assert read_at(DONE, 10**9) is DONE


def test_the_fence_lets_its_holder_write_until_deadline() -> None:
    assert holds(STREAMING, "fence", 999)
    assert not holds(STREAMING, "fence", 1000)
    assert not holds(STREAMING, "another", 999)
    assert not holds(DONE, "fence", 999)
    assert not holds(released(STREAMING, None), "fence", 999)


def test_what_was_published_is_the_answer_of_a_lost_turn() -> None:
    turn = published(STREAMING, "Hel")
    assert lost(turn, 999) is None
    assert lost(turn, 1000) == Answer("interrupted", "Hel", ended_ms=1000)
    assert lost(DONE, 10**9) is None


def test_a_published_text_only_grows() -> None:
    turn = published(STREAMING, "Hello")
    assert published(turn, "Hel") is turn


def test_a_turn_is_packed_with_all_its_fields() -> None:
    turn = replace(with_ticket(published(DONE, "x"), ticket("print"), 0), error={"code": "x"})
    assert Turn.unpack(turn.pack()) == turn


def test_a_packed_turn_of_fewer_fields_is_read() -> None:
    """Another version of the program may have written it."""
    assert Turn.unpack(b'{"owner":"o","session":"s","page":1,"number":2}') == Turn("o", "s", 1, 2)


def test_a_published_turn_fits_into_a_document() -> None:
    turn = published(STREAMING, "x" * MAX_ANSWER_BYTES)
    for number in range(MAX_TICKETS):
        turn = with_ticket(turn, ticket(f"{number:032}"), 0)
    assert len(turn.pack()) < 1_000_000


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_an_unused_ticket_expires() -> None:
    turn = with_ticket(STREAMING, ticket("print"), 100)
    assert with_used_ticket(turn, "print", 100 + TICKET_MS - 1) is not None
    assert with_used_ticket(turn, "print", 100 + TICKET_MS) is None


def test_a_used_ticket_is_valid_until_the_turn_ended() -> None:
    turn = with_used_ticket(with_ticket(replace(STREAMING, deadline_ms=10**9), ticket("print"), 0), "print", 1)
    assert turn is not None
    assert with_used_ticket(turn, "print", 100 * TICKET_MS) is turn
    over = ended(turn, Answer("done", "", ended_ms=100 * TICKET_MS))
    assert with_used_ticket(over, "print", 101 * TICKET_MS - 1) is over
    assert with_used_ticket(over, "print", 101 * TICKET_MS) is None


def test_a_ticket_of_a_lost_turn_expires_after_its_deadline() -> None:
    turn = with_used_ticket(with_ticket(STREAMING, ticket("print"), 0), "print", 1)
    assert turn is not None
    assert with_used_ticket(turn, "print", 999 + TICKET_MS) is turn
    assert with_used_ticket(turn, "print", 1000 + TICKET_MS) is None


def test_a_used_ticket_of_a_pending_turn_expires() -> None:
    """Its generation failed before any text."""
    turn = with_used_ticket(with_ticket(STREAMING, ticket("print"), 0), "print", 1)
    assert turn is not None
    assert with_used_ticket(released(turn, None), "print", TICKET_MS - 1) is not None
    assert with_used_ticket(released(turn, None), "print", TICKET_MS) is None


def test_another_ticket_opens_nothing() -> None:
    assert with_used_ticket(with_ticket(STREAMING, ticket("print"), 0), "other", 0) is None


def test_the_newest_tickets_of_a_turn_are_kept() -> None:
    turn = STREAMING
    for number in range(MAX_TICKETS + 1):
        turn = with_ticket(turn, ticket(str(number)), 0)
    assert [one.fingerprint for one in turn.tickets] == [str(number) for number in range(1, MAX_TICKETS + 1)]


def test_expired_tickets_are_dropped() -> None:
    turn = with_ticket(with_ticket(STREAMING, ticket("old"), 0), ticket("new"), TICKET_MS)
    assert turn.tickets == (ticket("new")._replace(expires_ms=2 * TICKET_MS),)


# -- ids of events -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["aB-_9.0", f"t.{USAGE_AT}", f"t.{END_AT}"])
def test_an_id_of_an_event_is_read(text: str) -> None:
    found = EventId.parse(text)
    assert found is not None
    assert str(found) == text


@pytest.mark.parametrize("text", ["", "t", "t.", ".5", "t.x", "t.-1", "t.1.5x", "t.\u0663", "t." + "9" * 30])
def test_another_text_is_no_id(text: str) -> None:
    assert EventId.parse(text) is None


def test_the_last_events_are_beyond_every_text() -> None:
    assert MAX_ANSWER_BYTES < USAGE_AT < END_AT
