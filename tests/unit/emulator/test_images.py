"""Images of the offline Gemini: real files of the size that was asked for, and Google's ways to answer without one."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import aiohttp
import pytest
from google import genai
from google.genai.types import GenerateContentConfig, ImageConfig
from PIL import Image

from shared.emulator import EmulatorConfig, drawing, images, running
from shared.emulator.config import Limits, Project
from tests.unit.emulator.conftest import Asker

PRO, FLASH, OLD = "gemini-3-pro-image", "gemini-3.1-flash-image", "gemini-2.5-flash-image"


def image_in(answer: dict[str, Any]) -> tuple[Image.Image, str]:
    """The only image, opened, and the MIME type that is told."""
    parts = answer["candidates"][0]["content"]["parts"]
    (blob,) = [part["inlineData"] for part in parts if "inlineData" in part]
    image = Image.open(io.BytesIO(base64.b64decode(blob["data"])))
    image.load()
    return image, blob["mimeType"]


async def drawn(ask: Asker, text: str = "A cat", model: str = PRO, **config: Any) -> tuple[Image.Image, dict[str, Any]]:
    status, answer = await ask.ask(text, model=model, **config)
    assert status == 200, answer
    image, mime_type = image_in(answer)
    assert Image.MIME[image.format or ""] == mime_type
    return image, answer


@pytest.mark.parametrize(
    ("model", "config", "size"),
    [
        (PRO, {}, (1024, 1024)),
        (PRO, {"aspectRatio": "16:9"}, (1376, 768)),
        (PRO, {"aspectRatio": "16:9", "imageSize": "2K"}, (2752, 1536)),
        (PRO, {"aspectRatio": "4:5", "imageSize": "4K"}, (3712, 4608)),
        (FLASH, {"aspectRatio": "3:4", "imageSize": "512"}, (448, 600)),
        (FLASH, {"aspectRatio": "1:8"}, (384, 3072)),
        (OLD, {"aspectRatio": "16:9"}, (1344, 768)),
        ("nano-banana-pro-preview", {}, (1024, 1024)),
    ],
)
async def test_an_image_has_the_pixels_of_its_ratio_and_size(
    ask: Asker, model: str, config: dict[str, str], size: tuple[int, int]
) -> None:
    image, _ = await drawn(ask, model=model, imageConfig=config)
    assert image.size == size


async def test_repeated_prompts_draw_reproducible_images() -> None:
    """Each repetition is another image, and the same one in every process."""
    runs = []
    for _ in range(2):
        async with running(EmulatorConfig(latency_s=0)) as emulator, aiohttp.ClientSession() as session:
            ask = Asker(emulator, session)
            runs.append([(await drawn(ask, text))[0].tobytes() for text in ("A cat", "A cat", "一只猫", "A cat")])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 4


async def test_a_seed_that_is_named_is_the_same_image_each_time(ask: Asker) -> None:
    first, again, other = [(await drawn(ask, seed=seed))[0].tobytes() for seed in (7, 7, 8)]
    assert first == again != other


async def test_drawing_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_PROMPTS_KEPT", 2)
    seeds = images.Seeds()
    said = ["a", "a", "b", "c", "a", "c"]
    a, a_again, _, c, a_forgotten, c_again = [seeds.next({"contents": [{"parts": [{"text": text}]}]}) for text in said]
    assert a == a_forgotten != a_again
    assert c != c_again


async def test_the_prompt_is_written_on_the_image() -> None:
    bare = Image.open(io.BytesIO(drawing.draw("", 7, 512, 512)[0]))
    written = Image.open(io.BytesIO(drawing.draw("灯塔 A lighthouse", 7, 512, 512)[0]))
    ink = (24, 24, 32)
    counts = [{c: n for n, c in image.convert("RGB").getcolors(256) or ()}.get(ink, 0) for image in (bare, written)]
    assert counts[0] == 0 < counts[1]


def test_what_the_font_lacks_is_written_as_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own font has no Chinese: boxes would be all alike."""
    monkeypatch.setattr(drawing, "_FONTS", ())
    drawing._font.cache_clear()
    chinese = drawing.draw("月 A", 7, 512, 512)
    assert chinese == drawing.draw("\\u6708 A", 7, 512, 512)
    assert chinese != drawing.draw("日 A", 7, 512, 512)
    drawing._font.cache_clear()


@pytest.mark.parametrize("text", ["x" * 2_000_000, "i " * 1_000_000, "月" * 2_000_000])
def test_no_text_is_too_long_to_be_drawn(text: str) -> None:
    data, _ = drawing.draw(text, 1, 3072, 384)
    assert Image.open(io.BytesIO(data)).size == (3072, 384)


def test_without_pillow_it_is_still_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "Image", None)
    data, mime_type = drawing.draw("A cat", 1, 300, 200, "image/jpeg")
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (mime_type, image.format, image.size) == ("image/png", "PNG", (300, 200))
    length = struct.unpack(">I", data[data.index(b"IDAT") - 4 : data.index(b"IDAT")])[0]
    start = data.index(b"IDAT") + 4
    assert len(zlib.decompress(data[start : start + length])) == 200 * 301


async def test_jpeg_is_made_where_it_is_asked_for(ask: Asker) -> None:
    image, _ = await drawn(ask, imageConfig={"outputMimeType": "image/jpeg"})
    assert image.format == "JPEG"


async def test_text_comes_with_it_only_where_both_are_wanted(ask: Asker) -> None:
    for modalities, kinds in ((["IMAGE"], [{"inlineData"}]), (["TEXT", "IMAGE"], [{"text"}, {"inlineData"}])):
        _, answer = await drawn(ask, responseModalities=modalities)
        parts = answer["candidates"][0]["content"]["parts"]
        assert [set(part) - {"thoughtSignature"} for part in parts] == kinds
        assert parts[-1]["thoughtSignature"]
    assert await ask.text(model=PRO, responseModalities=["TEXT"])


async def test_its_tokens_are_counted_as_an_image(ask: Asker) -> None:
    _, answer = await drawn(ask, responseModalities=["IMAGE"], imageConfig={"imageSize": "4K"})
    usage = answer["usageMetadata"]
    assert usage["candidatesTokenCount"] == 2000
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 2000}]


async def test_google_s_own_client_reads_it_whole_and_streamed(client: genai.Client) -> None:
    config = GenerateContentConfig(response_modalities=["IMAGE"], image_config=ImageConfig(aspect_ratio="3:2"), seed=1)
    whole = await client.aio.models.generate_content(model=PRO, contents="A cat", config=config)
    image = whole.parts[0].as_image()  # type: ignore[index]
    assert image is not None
    assert image.image_bytes is not None
    assert Image.open(io.BytesIO(image.image_bytes)).size == (1264, 848)
    stream = await client.aio.models.generate_content_stream(model=PRO, contents="A cat", config=config)
    blobs = [part.inline_data.data async for chunk in stream for part in chunk.parts or () if part.inline_data]
    assert blobs == [image.image_bytes]


@pytest.mark.parametrize(("fault", "reason"), [("image_safety", "IMAGE_SAFETY"), ("no_image", "NO_IMAGE")])
async def test_an_image_can_be_withheld(ask: Asker, fault: str, reason: str) -> None:
    status, answer = await ask.ask(f"[[fault:{fault}]]", model=PRO, responseModalities=["IMAGE"])
    (candidate,) = answer["candidates"]
    assert (status, candidate["finishReason"], candidate["content"]) == (200, reason, {"role": "model"})
    assert "candidatesTokenCount" not in answer["usageMetadata"]


async def test_text_can_come_in_an_image_s_place(ask: Asker) -> None:
    assert "text only" in await ask.text("[[fault:text_only]]", model=PRO, responseModalities=["IMAGE"])


@pytest.mark.parametrize("fault", sorted(images.ODD_IMAGES))
async def test_image_can_come_damaged_or_in_the_other_alphabet(ask: Asker, fault: str) -> None:
    _, whole = await ask.ask("A cat", model=PRO, responseModalities=["IMAGE"])
    _, odd = await ask.ask(f"A cat [[fault:{fault}]]", model=PRO, responseModalities=["IMAGE"])
    blob = odd["candidates"][0]["content"]["parts"][0]["inlineData"]
    data = (
        base64.urlsafe_b64decode(blob["data"] + "==") if fault == "image_base64url" else base64.b64decode(blob["data"])
    )
    assert blob["mimeType"] == "image/png"
    if fault == "image_html":
        assert data.startswith(b"<!DOCTYPE html>")
    elif fault == "image_cut":
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(data)).load()
    else:
        assert not set("+/=") & set(blob["data"])
        assert Image.open(io.BytesIO(data)).size == image_in(whole)[0].size


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        (PRO, {"imageConfig": {"aspectRatio": "7:3"}}, "aspect_ratio must be one of 1:1, 2:3"),
        (PRO, {"imageConfig": {"aspectRatio": "1:8"}}, "aspect_ratio must be one of"),
        (PRO, {"imageConfig": {"imageSize": "512"}}, "image_size must be one of 1K, 2K, 4K."),
        (OLD, {"imageConfig": {"imageSize": "2K"}}, "image_size is not supported for this model."),
        (PRO, {"candidateCount": 2}, "Multiple candidates is not enabled"),
        (PRO, {"responseMimeType": "application/json"}, "JSON mode is not enabled"),
        (PRO, {"responseModalities": ["AUDIO"]}, "Model does not support the requested response modalities: audio"),
        ("gemini-3.8-flash", {"responseModalities": ["IMAGE"]}, "Model does not support the requested"),
    ],
)
async def test_what_the_model_cannot_make_is_refused(ask: Asker, model: str, config: Any, words: str) -> None:
    assert words in await ask.message(model=model, **config)


@pytest.mark.parametrize(
    ("tier", "quota_id"),
    [
        ("paid", "GenerateImagesPerMinutePerProjectPerModel"),
        ("free", "GenerateImagesPerMinutePerProjectPerModel-FreeTier"),
    ],
)
async def test_images_per_minute_are_enforced_and_text_does_not_count(session: Any, tier: Any, quota_id: str) -> None:
    project = Project(tier=tier, limits=Limits(ipm=2))
    async with running(EmulatorConfig(default_project=project)) as emulator:
        ask = Asker(emulator, session)
        for _ in range(3):
            assert await ask.status(model=PRO, responseModalities=["TEXT"]) == 200
        assert [await ask.status(model=PRO) for _ in range(3)] == [200, 200, 429]
        assert await ask.status(model=FLASH) == 200, "limits hold for each model by itself"
        _, body = await ask.ask(model=PRO)
        failure = next(d for d in body["error"]["details"] if d["@type"].endswith("QuotaFailure"))
        assert (failure["violations"][0]["quotaId"], failure["violations"][0]["quotaValue"]) == (quota_id, "2")
        stats = emulator.stats()
        assert stats["refused"] == {"ipm": 2}
        assert stats["projects"]["k"]["models"][PRO]["max_images_in_window"] == 2


async def test_a_refusal_for_images_can_be_ordered(ask: Asker) -> None:
    status, body = await ask.ask("[[fault:429-images@2]]", model=PRO)
    assert (status, "generate_images_per_model, limit: 10" in body["error"]["message"]) == (429, True)
