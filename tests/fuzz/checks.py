"""What schemathesis checks besides its own: rules that hold for every operation, but that a specification cannot say."""

from __future__ import annotations

import os
import re
from typing import Any

import orjson
import requests
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection

GEMINIS_TO_SAY = {
    "rejected_by_gemini",
    "prompt_blocked",
    "cost_exceeds_limit",
    "content_policy_violation",
    "model_not_found",
}
UNUSABLE_ANSWERS = {"empty_response", "response_blocked", "nonconforming_answer"}
"""502 by contract, and by the caller's own wish: one token is all that it wants, or its schema contradicts itself."""
BEYOND_A_SCHEMA = (
    *("json_schema", "input_images", "image", "size", "file", "input"),
    *("messages", "prompts", "tools", "tool_choice", "response_format", "max_tokens", "stop", "top_logprobs"),
    *("google", "extra_body", "reasoning_effort", "resumable", "last-event-id"),
)
"""Fields that must themselves be a JSON Schema, or hold files; an image's size; a list's total; fields that depend on others:
in a conversation one message refers to another, and a switch decides what the body is."""
_NAMING = ("/chat/completions", "/upload", "/chat", "/stream")
"""Operations whose query or body may name a file or a session."""
LITTLE_TIME_S = 2.0
OUT_OF_TIME = {"queue_timeout", "upstream_timeout", "ledger_unavailable"}
"""The last where not even the ledger had the time to answer."""
CREDENTIALS = ("admin-api-key", "authorization", "x-goog-api-key")
_GUESSED: set[str] = set()
"""Operations that were sent a wrong admin key."""
UNKNOWN_HEADER = "x-schemathesis-unknown-property"


@schemathesis.hook
def filter_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> bool:
    """A path with a line break never gets as far as a function: the server answers 404 by itself."""
    return not any(re.search("\n|%0a", str(value), re.IGNORECASE) for value in (path_parameters or {}).values())


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """No pattern leads to an image that is there: half of the requests that are to succeed are for one."""
    name = os.environ.get(f"FUZZ_IMAGE_{case.method.upper()}", "")
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    path = (case.path_parameters or {}).get("path", "")
    if name and positive and case.operation.path.startswith("/image") and len(str(path)) % 2:
        case.path_parameters["path"] = name


@schemathesis.check
def takes_what_is_described(ctx: Any, response: Any, case: Any) -> None:
    """What the specification allows is refused by Gemini alone."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    error = response.json()["error"]
    field = re.split(r"[.\[]", str(error.get("param") or (error.get("details") or {}).get("field", "")))[0]
    beyond = (*BEYOND_A_SCHEMA, "model") if case.operation.path.endswith("/embeddings") else BEYOND_A_SCHEMA
    if error["code"] not in GEMINIS_TO_SAY | _excused(case) and field not in beyond:
        raise AssertionError(f"The specification allows this request, and it is refused: {error}")


@schemathesis.check
def has_no_defect(ctx: Any, response: Any, case: Any) -> None:
    """No 5xx, except for what Gemini answered and nobody could use."""
    if response.status_code >= 500 and response.json()["error"]["code"] not in _excused(case):
        raise AssertionError(f"It failed: {response.text[:500]}")


def _excused(case: Any) -> set[str]:
    """The codes that are the caller's own doing. No pattern says which images, files, caches, sessions and batches there are."""
    try:
        timeout_s = float((case.headers or {}).get("x-request-timeout", LITTLE_TIME_S))
    except ValueError:
        timeout_s = LITTLE_TIME_S
    names_things = case.path_parameters or case.operation.path.endswith(_NAMING)
    missing = {"not_found", "nothing_pending"} if names_things else set()
    taken = {"batch_busy", "batch_differs"} if case.operation.path.startswith("/batch") else set()
    return UNUSABLE_ANSWERS | missing | taken | (OUT_OF_TIME if timeout_s < LITTLE_TIME_S else set())


@schemathesis.check
def refuses_what_is_not_described(ctx: Any, response: Any, case: Any) -> None:
    """A header that nobody knows is no mistake: proxies and clients add their own."""
    if UNKNOWN_HEADER not in (case.headers or {}):
        negative_data_rejection(ctx, response, case)


@schemathesis.check
def needs_a_credential(ctx: Any, response: Any, case: Any) -> None:
    """The same request without one, and with a wrong one, is told just that, whatever its body is."""
    request = response.request.copy()
    security = case.operation.definition.raw.get("security")
    if not security or "ticket" in (case.query or {}) or request.method != case.operation.method.upper():
        return
    for name in CREDENTIALS:
        request.headers.pop(name, None)
    _without_credentials(request)
    # A network that sends many wrong keys gets 429 for a while, with a delay: one for each operation.
    is_first = case.operation.label not in _GUESSED
    _GUESSED.add(case.operation.label)
    with requests.Session() as session:
        for wrong, allowed in (({}, {401}), ({"Admin-API-Key": "wrong"}, {401, 429}))[: 1 + is_first]:
            request.headers.update(wrong)
            answer = session.send(request, timeout=30)
            if answer.status_code not in allowed:
                raise AssertionError(f"Without a credential it is answered {answer.status_code}: {answer.text[:300]}")


def _without_credentials(request: requests.PreparedRequest) -> None:
    try:
        body = orjson.loads(request.body or b"")
    except orjson.JSONDecodeError:
        return
    if isinstance(body, dict) and "credentials" in body:
        del body["credentials"]
        request.prepare_body(orjson.dumps(body), None)
