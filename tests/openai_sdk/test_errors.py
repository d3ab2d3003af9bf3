"""Each error raises the class of OpenAI's SDK that its users catch."""

from __future__ import annotations

import openai
import pytest

from tests.openai_sdk.conftest import Client


async def test_path_that_is_not_built_is_not_found(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client("moderations.create", input="Hello")
    assert raised.value.status_code == 404
