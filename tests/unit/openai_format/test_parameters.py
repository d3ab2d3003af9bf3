"""Every parameter that openai-python can send is honoured, refused by name or documented as ignored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.openai_parameters import README, all_fields, extensions, row, sdk_parameters, table, written


@pytest.mark.parametrize("parameter", sdk_parameters())
def test_every_parameter_of_the_sdk_has_a_row(parameter: str) -> None:
    """One without a row is new in the SDK: give ChatBody a field for it, with a Rule or a description."""
    assert row(parameter) is not None


def test_unknown_parameter_has_no_row() -> None:
    assert row("telepathy") is None
    assert row("messages[].telepathy") is None


def test_readme_has_the_table_of_today() -> None:
    """`python -m tests.support.openai_parameters` writes it."""
    assert README.read_text() == written()
    assert "| `temperature` | honoured |" in table()


def test_every_row_says_what_becomes_of_the_parameter() -> None:
    rows = [made for parameter in sdk_parameters() if (made := row(parameter)) is not None]
    assert [made.parameter for made in {*rows, *extensions()} if not made.text] == []


def test_what_is_ignored_takes_any_value() -> None:
    """What has no effect cannot be wrong."""
    ignored = {name: field for name, field in all_fields() if (field.description or "").startswith("Ignored")}
    assert "ChatBody.metadata" in ignored
    assert [name for name, field in ignored.items() if field.annotation is not Any] == []
