"""Bad requests, by endpoint: rejected as the table says, before anything is sent to Gemini."""

from __future__ import annotations

import orjson

from tests.bad_input.cases import OPERATIONS, VALID, form, headers_for
from tests.bad_input.table import DOCUMENT, document, field_of, responses
from tests.support.whole_path import whole_path


async def test_cases_are_rejected_and_the_document_is_current() -> None:
    sent = await responses()
    wrong = []
    for case, answer in sent:
        error = answer.json().get("error", {})
        if (answer.status, error.get("code")) != (case.status, case.code):
            wrong.append(f"{case}: {answer.status} {answer.body[:300]!r}")
        elif case.names_field and field_of(error) != case.name:
            wrong.append(f"{case}: names {field_of(error)}")
    assert not wrong, "\n".join(wrong)
    assert DOCUMENT.read_text() == document(sent), "run `make bad-input`"


async def test_valid_bodies_are_accepted() -> None:
    """The bodies that the cases change in one place."""
    async with whole_path() as path:
        for endpoint, body in VALID.items():
            content = form(body) if OPERATIONS[endpoint].form else orjson.dumps(body)
            answer = await path.send("POST", endpoint, content, headers_for(endpoint))
            assert answer.status == 200, f"{endpoint}: {answer.body[:300]!r}"
