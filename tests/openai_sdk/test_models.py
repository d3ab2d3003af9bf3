"""The list of models."""

from __future__ import annotations

import openai
import pytest

from tests.openai_sdk.conftest import Client, every


async def test_models_are_listed(client: Client) -> None:
    models = await every(client.sdk.models.list())
    assert {"gemini-3.8-flash", "gemini-4-argon", "gemini-3-pro-image"} <= {model.id for model in models}
    assert {model.object for model in models} == {"model"}


@pytest.mark.parametrize("name", ["gemini-3.8-flash", "models/gemini-3.8-flash"])
async def test_one_model(client: Client, name: str) -> None:
    model = await client("models.retrieve", name)
    assert model.limits.keys() == model.used.keys()


async def test_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client("models.retrieve", "gemini-99-ultra")
    assert raised.value.code == "model_not_found"
