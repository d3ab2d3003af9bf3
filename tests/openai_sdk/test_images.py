"""Images: generated and edited."""

from __future__ import annotations

import asyncio
import base64
import struct
import urllib.request

import openai
import pytest

from tests.openai_sdk.conftest import Client
from tests.openai_sdk.test_chat import png


def size_of(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def received(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        return bytes(response.read())


async def test_generated_images_have_links_and_bytes(client: Client) -> None:
    answer = await client("images.generate", prompt="A lighthouse", n=2, size="1536x1024")
    assert len(answer.data) == 2
    for image in answer.data:
        data = base64.b64decode(image.b64_json)
        assert size_of(data) == (1264, 848)
        assert await asyncio.to_thread(received, image.url) == data
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


async def test_links_alone(client: Client) -> None:
    answer = await client("images.generate", prompt="A lighthouse", response_format="url")
    assert answer.data[0].b64_json is None
    assert answer.data[0].url.endswith(".png")


async def test_edit_of_one_image_and_of_two(client: Client) -> None:
    first = await client("images.edit", image=png(), prompt="Make it red", response_format="b64_json")
    assert size_of(base64.b64decode(first.data[0].b64_json)) == (1024, 1024)
    both = await client(
        "images.edit",
        image=[("a.png", png(), "image/png"), ("b.png", png(16), "image/png")],
        prompt="Side by side",
        model="gemini-3.1-flash-image",
        size="512x512",
        n=2,
    )
    assert len(both.data) == 2
    assert both.usage.input_tokens > first.usage.input_tokens


async def test_what_succeeded_is_returned(client: Client) -> None:
    answer = await client("images.generate", prompt=client.fresh("[[fault:no_imagex1]] A lighthouse"), n=3)
    assert len(answer.data) == 2
    assert [error["code"] for error in answer.errors] == ["empty_response"]


async def test_mask_is_refused_by_name(client: Client) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client("images.edit", image=png(), mask=png(), prompt="Make it red")
    assert raised.value.param == "mask"


async def test_withheld_image_is_not_asked_for_again(client: Client) -> None:
    """The SDK repeats a 5xx twice, and each time is paid for."""
    with pytest.raises(openai.BadRequestError) as raised:
        await client("images.generate", prompt="[[fault:image_safety]] A lighthouse")
    assert raised.value.code == "content_policy_violation"
