"""Bad input, endpoint by endpoint: told as the table says, before anything is sent to Gemini."""

from __future__ import annotations

import orjson

from tests.bad_input.cases import VALID
from tests.bad_input.table import DOCUMENT, answers, document
from tests.support.whole_path import whole_path


async def test_every_case_is_refused_as_the_table_says_and_the_document_is_up_to_date() -> None:
    answered = await answers()
    wrong = []
    for case, answer in answered:
        error = answer.json().get("error", {})
        if (answer.status, error.get("code")) != (case.status, case.code):
            wrong.append(f"{case}: {answer.status} {answer.body[:300]!r}")
        elif case.names_field and (error.get("details") or {}).get("field") != case.name:
            wrong.append(f"{case}: names {error.get('details')}")
    assert not wrong, "\n".join(wrong)
    assert DOCUMENT.read_text() == document(answered), "run `make bad-input`"


async def test_without_the_one_thing_that_is_wrong_each_body_is_answered() -> None:
    async with whole_path() as path:
        for endpoint, body in VALID.items():
            answer = await path.send("POST", endpoint, orjson.dumps(body))
            assert answer.status == 200, f"{endpoint}: {answer.body[:300]!r}"
