"""parameters.json lists what this SDK can send."""

from __future__ import annotations

import json

from tests.openai_sdk.parameters import FILE, parameters


def test_the_list_is_of_this_sdk() -> None:
    """After an update: `.venv-openai/bin/python tests/openai_sdk/parameters.py`, then a row for what is new."""
    assert json.loads(FILE.read_text()) == parameters()
