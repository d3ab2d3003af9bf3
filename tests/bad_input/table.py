"""Sends every case over the whole path and lays the answers out as a table."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.bad_input.cases import Case, cases
from tests.support.edge import Answer
from tests.support.whole_path import WholePath, whole_path

DOCUMENT = Path(__file__).parents[2] / "functions" / "BAD_INPUT.md"
_HEAD = """# What is refused, and how it is told

Written from the tests by `make bad-input`; do not edit. Every error has the shape
`{"error": {"code", "message", "status", "request_id", "details"}}`; `details.field` names the field. Nothing of this is sent
to Gemini.
"""


_NOTES = {
    "/structured-output": """Not refused: a `pattern` (or a key of `patternProperties`) that is ECMA-262 but that the local engine
cannot search for: lookaround, back-references, flags within the pattern, properties that RE2 does not have, repeats over 1,000,
and what exceeds 100 patterns, 10,000 instructions or 10,000 characters in one schema. Gemini is given the schema all the same;
no answer is checked against that keyword, nor against those that its result could turn around (`not`, `if`, `oneOf`, `contains`,
`additionalProperties`, `unevaluatedProperties`, `unevaluatedItems`). The response header `x-schema-unchecked` lists them as URI
fragments (`#/properties/price/pattern`, percent-encoded, separated by ", "): at most 20 and 1,024 bytes; then `more=N` counts
the rest.""",
}
"""By path, what stands above an endpoint's table."""


async def answers() -> list[tuple[Case, Answer]]:
    async with whole_path(LOG_LEVEL="ERROR") as path:
        answered = [(case, await send(path, case)) for case in cases()]
        # A prompt that seems larger than a whole limit is counted by Gemini before it is refused.
        assert path.gemini.stats()["by_method"].keys() <= {"countTokens"}
        return answered


async def send(path: WholePath, case: Case) -> Answer:
    return await path.send(case.method, case.path, case.body, case.headers)


async def written() -> str:
    return document(await answers())


def document(answered: Iterable[tuple[Case, Answer]]) -> str:
    of_any, of_fields = [], []
    for case, answer in answered:
        (of_any if not case.names_field or case.name.startswith("x-") else of_fields).append((case, answer))
    lines = [_HEAD, "## Every endpoint that takes a body", "", *_table(of_any)]
    for path, group in groupby(of_fields, key=lambda pair: pair[0].path):
        note = [_NOTES[path], ""] if path in _NOTES else []
        lines += ["", f"## POST {path}", "", *note, *_table(list(group))]
    return "\n".join(lines) + "\n"


def _table(pairs: Iterable[tuple[Case, Answer]]) -> list[str]:
    rows = ["| field | sent | status | code | message |", "|---|---|---|---|---|"]
    for case, answer in pairs:
        message = answer.error["message"].replace("|", "\\|").replace("\n", " ")
        pointer = (answer.error.get("details") or {}).get("pointer")
        where = f" (pointer `{pointer}`)" if pointer is not None else ""
        rows.append(f"| `{case.name}` | {case.sent} | {answer.status} | `{answer.error['code']}` | {message}{where} |")
    return rows
