"""What a client reads that calls a path of OpenAI's API which this gateway does not have."""

from __future__ import annotations

import pytest

from shared.openai_api.unbuilt import explanation

NOT_HERE = "is not part of this server's API."


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("completions", "POST /v1/chat/completions"),
        ("responses", "POST /v1/chat/completions"),
        ("responses/resp_1/input_items", "POST /v1/chat/completions"),
        ("audio/transcriptions", "input_audio"),
        ("audio/speech", "No path makes speech"),
        ("moderations", "safe_mode"),
        ("uploads/upload_1/parts", "POST /v1/files"),
        ("batches", "x-priority: batch"),
        ("fine_tuning/jobs", "cannot be fine-tuned"),
        ("assistants", "system message"),
        ("threads/thread_1/runs", "as messages"),
        ("vector_stores", "POST /v1/embeddings"),
        ("images/variations", "POST /v1/images/edits"),
        ("v1/chat/completions", "remove it from one of them"),
        ("things", "GET /openapi.json"),
        ("completions2", "GET /openapi.json"),
        ("images", "GET /openapi.json"),
    ],
)
def test_an_unbuilt_path_names_what_to_use(path: str, instead: str) -> None:
    message = explanation("POST", f"/v1/{path}")
    assert message.startswith(f"POST /v1/{path} {NOT_HERE} ")
    assert instead in message


def test_a_long_path_is_cut() -> None:
    assert len(explanation("POST", f"/v1/{'x' * 10_000}")) < 250
