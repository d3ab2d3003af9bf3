"""Where an answer is checked: on the event loop while that is quick, else in a thread; and that every answer is checked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from shared.bounds.json_structure import MAX_VALUES
from shared.errors import NonconformingAnswer
from shared.generation import Caller, Reply, Timeline, Usage
from shared.structured.json_schema import Problem, check_schema
from shared.structured.output import MAX_TEXT_ON_LOOP, _read, generate_object, object_body
from tests.support.edge import FakeGateway, native

WRONG = [Problem("", "is wrong")]


class Checked:
    """A check that remembers its threads."""

    def __init__(self, quick: Sequence[Problem] | None) -> None:
        self.quick = quick
        self.threads: list[tuple[str, bool]] = []

    def problems(self, _: Any, /) -> Sequence[Problem]:
        self._remember("problems")
        return WRONG

    def quick_problems(self, _: Any, /) -> Sequence[Problem] | None:
        self._remember("quick")
        return self.quick

    def _remember(self, name: str) -> None:
        self.threads.append((name, threading.current_thread() is threading.main_thread()))


def reply(text: str) -> Reply:
    body = {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}
    return Reply(body, "model", "model", "account", Usage())


@pytest.mark.parametrize("quick", [[], WRONG], ids=["right", "wrong"])
async def test_a_quick_check_stays_on_the_loop(quick: list[Problem]) -> None:
    check = Checked(quick)
    assert (await _read(reply("[1]"), check))[2] == quick
    assert check.threads == [("quick", True)]


async def test_a_costly_check_goes_on_in_a_thread() -> None:
    check = Checked(None)
    text, data, problems = await _read(reply("[1]"), check)
    assert (text, data, problems) == ("[1]", "[1]", WRONG)
    assert check.threads == [("quick", True), ("problems", False)]


async def test_a_long_answer_is_read_in_a_thread() -> None:
    check = Checked([])
    text = orjson.dumps("x" * MAX_TEXT_ON_LOOP).decode()
    assert (await _read(reply(text), check))[::2] == (text, WRONG)
    assert check.threads == [("problems", False)]


async def test_an_answer_too_costly_to_check_does_not_conform() -> None:
    schema = check_schema({"items": {"allOf": [{"minimum": 0}] * 5_000}})
    _, _, problems = await _read(reply(orjson.dumps([1] * 20_000).decode()), schema)
    (problem,) = problems
    assert "too costly to check" in problem.message


async def test_a_large_right_answer_conforms() -> None:
    """As many numbers as the longest answer has: the event loop would stand still for half a second."""
    schema = check_schema({"items": {"type": "integer", "minimum": 0}})
    _, _, problems = await _read(reply(orjson.dumps(list(range(40_000))).decode()), schema)
    assert problems == []


async def test_an_answer_of_too_many_values_does_not_conform() -> None:
    """Parsing millions of lists holds the interpreter for a second, in a thread too."""
    _, _, problems = await _read(reply("[" + "[]," * MAX_VALUES + "1]"), Checked([]))
    assert problems == [Problem("", "has more than 500,000 values and field names, too many to check: ask for less")]


async def test_long_text_without_json_is_a_problem() -> None:
    _, _, problems = await _read(reply("[" + "1," * MAX_TEXT_ON_LOOP), Checked([]))
    (problem,) = problems
    assert problem.message.startswith("is not JSON")


class TestWithoutHttp:
    """A use case takes a generator: nothing here is an HTTP request."""

    BODY = object_body("Ada", "Extract the year.", {"type": "integer"})

    def generator(self, gateway: FakeGateway) -> Any:
        return gateway.bind(Caller("batch", "admin"), 60.0, "batch", Timeline())

    async def test_conforming_answer_is_returned(self) -> None:
        gateway = FakeGateway("1815")
        data, ending = await generate_object(self.generator(gateway), "m", self.BODY, check_schema({"type": "integer"}))
        assert (orjson.dumps(data), ending) == (b"1815", ("m", "STOP", Usage(3, 2, 1, 6)))
        assert [generation.priority for generation in gateway.asked] == ["batch"]

    async def test_answer_is_repaired_once(self) -> None:
        gateway = FakeGateway(native('"1815"'))
        with pytest.raises(NonconformingAnswer, match="neither does its repair"):
            await generate_object(self.generator(gateway), "m", self.BODY, check_schema({"type": "integer"}))
        first, repair = gateway.asked
        assert len(repair.body["contents"]) == len(first.body["contents"]) + 2
