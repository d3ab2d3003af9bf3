"""The models as OpenAI's API lists them."""

from __future__ import annotations

import pytest

from shared.errors import ModelNotFound
from shared.gemini.models import MODELS, RETIRED, TABLE, ModelInfo
from shared.openai_format.model_list import canonical_id, model_ids, model_object

USE = {"limits": {"rpm": 5}, "used": {"rpm": 1}}
OWN = TABLE.changed(
    models=[ModelInfo("gemini-5-xenon", "pro")],
    successors={"team-model": "gemini-3.8-flash", "gemini-4-neon": "gemini-5-xenon"},
)
"""A table with an operator's model and aliases."""


def test_models_and_the_operators_aliases_are_listed() -> None:
    """The table's own aliases are for requests that name them, not for a choice."""
    listed = model_ids(OWN, ["gemini-tuned"])
    assert listed == sorted({*MODELS, "gemini-5-xenon", "team-model", "gemini-4-neon", "gemini-tuned"})
    assert not set(listed) & RETIRED.keys()


def test_every_listed_model_can_be_retrieved() -> None:
    for model_id in model_ids(OWN, ["gemini-tuned"]):
        assert model_object(model_id, OWN, USE)["served_by"] == canonical_id(model_id, OWN, ["gemini-tuned"])


@pytest.mark.parametrize(
    ("requested", "canonical"),
    [
        ("gemini-3.8-flash", "gemini-3.8-flash"),
        ("models/gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemini-1.5-pro", "gemini-4-argon"),
        ("gemini-flash-latest", "gemini-3.8-flash"),
        ("team-model", "gemini-3.8-flash"),
        ("gemini-enterprise", "gemini-3.8-flash"),
        ("gemini-tuned", "gemini-tuned"),
    ],
)
def test_an_id_leads_to_the_model_that_serves_it(requested: str, canonical: str) -> None:
    assert canonical_id(requested, OWN, ["gemini-tuned"]) == canonical


@pytest.mark.parametrize("requested", ["gpt-5", "", "Gemini-3.8-Flash", "a/b", "x" * 10_000, "models/"])
def test_an_unknown_id_is_model_not_found(requested: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        canonical_id(requested, TABLE)
    assert "GET /v1/models" in raised.value.message
    assert len(raised.value.message) < 250


def test_a_model_has_openais_fields_and_ours() -> None:
    assert model_object("gemini-3.8-flash", TABLE, USE) == {
        "id": "gemini-3.8-flash",
        "object": "model",
        "created": 1788307200,
        "owned_by": "google",
        "served_by": "gemini-3.8-flash",
        "context_window": 1_048_576,
        **USE,
    }


def test_what_is_not_known_of_a_model_is_null() -> None:
    """Except the date, which OpenAI's clients read as a number."""
    tuned = model_object("gemini-tuned", OWN, USE)
    assert tuned["context_window"] is None
    assert tuned["created"] > 0
    assert model_object("lyria-3.5", OWN, USE)["context_window"] is None
    assert model_object("team-model", OWN, USE)["context_window"] == 1_048_576
