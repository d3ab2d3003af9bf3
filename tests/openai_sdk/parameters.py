"""Writes parameters.json: what openai-python can send in a chat completion, read from the SDK's own types.

    .venv-openai/bin/python tests/openai_sdk/parameters.py

A name is a path like `messages[].content[].image_url.detail`. tests/unit/openai_format/test_parameters.py fails for a path that
the gateway neither takes, refuses by name nor ignores by name.
"""

from __future__ import annotations

import collections.abc
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import typing_extensions
from openai.types.chat import completion_create_params

FILE = Path(__file__).with_name("parameters.json")


def paths(kind: Any, path: str = "") -> Iterator[str]:
    """The fields of a TypedDict, and of those inside it."""
    if typing_extensions.is_typeddict(kind):
        for name, inner in typing_extensions.get_type_hints(kind).items():
            field = f"{path}.{name}" if path else name
            yield field
            yield from paths(inner, field)
    elif typing.get_origin(kind) in (list, collections.abc.Iterable, collections.abc.Sequence):
        yield from paths(typing.get_args(kind)[0], f"{path}[]")
    elif typing.get_origin(kind) is not dict:
        for inner in typing.get_args(kind):
            yield from paths(inner, path)


def parameters() -> dict[str, Any]:
    kinds = (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    )
    found = sorted({path for kind in kinds for path in paths(kind)})
    return {"openai": openai.__version__, "POST /v1/chat/completions": found}


if __name__ == "__main__":
    FILE.write_text(json.dumps(parameters(), indent=2) + "\n")
