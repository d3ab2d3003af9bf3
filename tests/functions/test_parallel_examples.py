"""The documented examples of the batch library, as programs call it: in a script, in a thread, and under a running loop.

Each asserts the parts that Gemini got.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor

from shared.generation import JsonObject
from tests.support.parallel import OfflineGemini, environment, offline_gemini

Outcome = list[tuple[Any, str | None, str | None]]
AUDIO, VIDEO = b"sound of an example", b"film of an example"


@pytest.fixture(scope="module")
def gemini() -> Iterator[OfflineGemini]:
    with offline_gemini() as running:
        yield running


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gemini: OfflineGemini) -> None:
    """A program in a folder of its own, with two recordings."""
    for name, value in environment(gemini.url, f"sqlite:///{tmp_path}/ledger.db").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp3").write_bytes(AUDIO)
    (tmp_path / "v.mp4").write_bytes(VIDEO)


@pytest.fixture
def processor() -> Iterator[GeminiParallelProcessor]:
    manager = AdvancedApiKeyManager(keylist_names=["KEY_A"], key_cooldown_seconds=0)
    yield GeminiParallelProcessor(manager, model_name="gemini-2.0-flash-001", api_call_interval=0, max_workers=4)
    manager.close()


def inline(data: bytes, mime_type: str, **more: Any) -> JsonObject:
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}, **more}


AUDIO_PART, VIDEO_PART = inline(AUDIO, "audio/mp3"), inline(VIDEO, "video/mp4")

EXAMPLES: list[tuple[str, dict[str, Any], list[JsonObject]]] = [
    ("text", {"prompt": "What is AI?"}, [{"text": "What is AI?"}]),
    ("one audio", {"prompt": "Transcribe.", "audio_path": "a.mp3"}, [AUDIO_PART, {"text": "Transcribe."}]),
    (
        "tokens mixed",
        {"prompt": "First <audio> then <video> done", "audio_path": "a.mp3", "video_path": "v.mp4"},
        [{"text": "First "}, AUDIO_PART, {"text": " then "}, VIDEO_PART, {"text": " done"}],
    ),
    (
        "lists",
        {
            "prompt": "<audio> or <audio>?",
            "audio_path": ["a.mp3", "a.mp3"],
            "audio_mime_type": ["audio/wav", "audio/ogg"],
        },
        [inline(AUDIO, "audio/wav"), {"text": " or "}, inline(AUDIO, "audio/ogg"), {"text": "?"}],
    ),
    (
        "bytes",
        {"prompt": "Listen: <audio>", "audio_bytes": b"raw", "audio_mime_type": "audio/wav"},
        [{"text": "Listen: "}, inline(b"raw", "audio/wav")],
    ),
    (
        "URL",
        {"prompt": "Describe.", "video_url": "https://www.youtube.com/watch?v=9hE5-98ZeCg"},
        [
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://www.youtube.com/watch?v=9hE5-98ZeCg"}},
            {"text": "Describe."},
        ],
    ),
    (
        "video metadata",
        {
            "prompt": "What happens?",
            "video_path": "v.mp4",
            "video_metadata": {"start_offset": "10s", "end_offset": "20s", "fps": 5},
        },
        [
            {**VIDEO_PART, "videoMetadata": {"startOffset": "10s", "endOffset": "20s", "fps": 5}},
            {"text": "What happens?"},
        ],
    ),
    (
        "complex",
        {
            "prompt": "Compare <video> with <audio>, then <audio>.",
            "audio_path": ["a.mp3"],
            "audio_bytes": [b"raw"],
            "audio_mime_type": ["audio/wav"],
            "video_path": ["v.mp4"],
            "video_url": ["https://youtu.be/9hE5-98ZeCg"],
            "video_metadata": [{"fps": 1}, {"start_offset": 3}],
            "generation_config": {"temperature": 0.2, "maxOutputTokens": 50},
        },
        [
            {"text": "Compare "},
            {**VIDEO_PART, "videoMetadata": {"fps": 1}},
            {"text": " with "},
            inline(AUDIO, "audio/wav"),
            {"text": ", then "},
            inline(b"raw", "audio/mp3"),
            {"text": "."},
            {
                "fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/9hE5-98ZeCg"},
                "videoMetadata": {"startOffset": "3s"},
            },
        ],
    ),
    (
        "fallback order",
        {"prompt": "All.", "audio_path": "a.mp3", "audio_bytes": b"raw", "video_path": "v.mp4"},
        [VIDEO_PART, AUDIO_PART, inline(b"raw", "audio/mp3"), {"text": "All."}],
    ),
]


@pytest.mark.parametrize(("item", "parts"), [one[1:] for one in EXAMPLES], ids=[one[0] for one in EXAMPLES])
def test_example(
    processor: GeminiParallelProcessor, gemini: OfflineGemini, item: dict[str, Any], parts: list[JsonObject]
) -> None:
    results = processor.process_prompts([{**item, "metadata": {"task_id": "t1"}}])
    assert len(results) == 1
    metadata, response, error = results[0]
    assert metadata == {"task_id": "t1"} and error is None
    assert isinstance(response, str) and response
    assert gemini.parts == parts


def test_results_are_in_the_order_of_the_input(processor: GeminiParallelProcessor) -> None:
    prompts = [{"prompt": f"number {number}"} if number % 3 else {"prompt": 7} for number in range(20)]
    results = processor.process_prompts(prompts)
    assert [metadata for metadata, _, _ in results] == [{}] * 20
    for number, (_, response, error) in enumerate(results):
        if number % 3:
            assert error is None and f"number {number}”" in str(response)
        else:
            assert (response, error) == (None, "prompt must be a text.")


def in_a_script(call: Callable[[], Outcome]) -> Outcome:
    return call()


def in_a_thread(call: Callable[[], Outcome]) -> Outcome:
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(60)
    return found[0]


def under_a_running_loop(call: Callable[[], Outcome]) -> Outcome:
    async def cell_of_a_notebook() -> Outcome:
        return call()

    return asyncio.run(cell_of_a_notebook())


@pytest.mark.parametrize("place", [in_a_script, in_a_thread, under_a_running_loop])
def test_it_works_in(processor: GeminiParallelProcessor, place: Callable[[Callable[[], Outcome]], Outcome]) -> None:
    prompts = [{"prompt": f"number {number}", "metadata": number} for number in range(10)]
    for _ in range(2):
        results = place(lambda: processor.process_prompts(prompts))
        assert [(metadata, error) for metadata, _, error in results] == [(number, None) for number in range(10)]


def test_generators_are_read_as_workers_become_free(processor: GeminiParallelProcessor) -> None:
    def prompts() -> Iterator[dict[str, Any]]:
        for number in range(30):
            yield {"prompt": f"number {number}", "metadata": number}

    seen: list[tuple[int, int, int | None]] = []
    results = processor.process_prompts(prompts(), progress=lambda one: seen.append((one.done, one.failed, one.total)))
    assert [metadata for metadata, _, _ in results] == list(range(30))
    assert seen == [(number + 1, 0, None) for number in range(30)]


def test_a_failing_generator_is_raised(processor: GeminiParallelProcessor) -> None:
    def prompts() -> Iterator[dict[str, Any]]:
        yield {"prompt": "one"}
        raise OSError("the file has gone")

    with pytest.raises(OSError, match="the file has gone"):
        processor.process_prompts(prompts())
    assert processor.process_prompts([{"prompt": "after"}])[0][2] is None


@pytest.mark.parametrize("prompts", ["text", b"bytes", {"prompt": "x"}])
def test_one_prompt_alone_is_no_list(processor: GeminiParallelProcessor, prompts: Any) -> None:
    with pytest.raises(TypeError, match="must be a list of dictionaries"):
        processor.process_prompts(prompts)


@pytest.mark.parametrize("ordered", [False, True])
async def test_results_are_streamed(processor: GeminiParallelProcessor, ordered: bool) -> None:
    async def prompts() -> Any:
        for number in range(20):
            await asyncio.sleep(0)
            yield {"prompt": f"number {number}", "metadata": number}

    results = [result async for result in processor.stream(prompts(), ordered=ordered)]
    assert sorted(result.metadata for result in results) == list(range(20))
    assert not ordered or [result.index for result in results] == list(range(20))
    assert {(result.key, result.error) for result in results} == {("KEY_A", None)}


@pytest.mark.parametrize("streams", [False, True])
def test_a_callback_may_end_the_program(processor: GeminiParallelProcessor, streams: bool) -> None:
    """SystemExit reaches the caller, and the processor still works."""

    def progress(_: object) -> None:
        raise SystemExit(3)

    async def stream() -> None:
        async for _ in processor.stream([{"prompt": "x"}] * 8, progress=progress):
            pass

    with pytest.raises(SystemExit) as raised:
        if streams:
            asyncio.run(stream())
        else:
            processor.process_prompts([{"prompt": "x"}] * 8, progress=progress)
    assert raised.value.code == 3
    assert processor.process_prompts([{"prompt": "after"}])[0][2] is None


def test_a_blocked_generator_does_not_hold_ctrl_c(processor: GeminiParallelProcessor) -> None:
    blocks, released = threading.Event(), threading.Event()

    def prompts() -> Iterator[dict[str, Any]]:
        yield {"prompt": "x"}
        blocks.set()
        released.wait(60)

    def interrupt() -> None:
        blocks.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        processor.process_prompts(prompts())
    assert processor.process_prompts([{"prompt": "after"}])[0][2] is None
    assert not released.is_set()
    released.set()


async def test_leaving_a_stream_ends_what_is_in_flight(
    processor: GeminiParallelProcessor, gemini: OfflineGemini
) -> None:
    before = gemini.admitted
    stream = processor.stream([{"prompt": f"number {number}"} for number in range(500)])
    async for _ in stream:
        break
    await stream.aclose()
    await asyncio.sleep(0.1)
    assert gemini.admitted - before < 400
    assert gemini.emulator.stats()["open"] == 0


def test_a_large_file_is_uploaded_once(
    processor: GeminiParallelProcessor, gemini: OfflineGemini, tmp_path: Path
) -> None:
    (tmp_path / "long.mp4").write_bytes(b"film" * (4 << 20))
    item = {"prompt": "Watch.", "video_path": "long.mp4"}
    before = dict(gemini.emulator.stats()["by_method"])
    results = processor.process_prompts([item, item, item])
    assert [error for _, _, error in results] == [None] * 3
    uris = {body["contents"][0]["parts"][0]["fileData"]["fileUri"] for body in gemini.bodies[-3:]}
    assert len(uris) == 1 and next(iter(uris)).startswith("http")
    after = gemini.emulator.stats()["by_method"]
    uploads = {name: count - before.get(name, 0) for name, count in after.items() if "upload" in name.lower()}
    assert max(uploads.values(), default=0) <= 3, uploads
    second = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0)
    assert GeminiParallelProcessor(second, api_call_interval=0).process_prompts([item])[0][2] is None
    second.close()
    assert gemini.bodies[-1]["contents"][0]["parts"][0]["fileData"]["fileUri"] in uris


def test_an_answer_may_have_to_conform_to_a_schema(processor: GeminiParallelProcessor) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    results = processor.process_prompts([{"prompt": "Name one.", "response_schema": schema}])
    assert results[0][2] is None and '"name"' in str(results[0][1])


def test_a_token_without_a_file_is_warned_about(
    processor: GeminiParallelProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="gemini_parallel"):
        processor.process_prompts([{"prompt": "secret words <audio>", "id": "t7"}])
    messages = [record.getMessage() for record in caplog.records if record.name == "gemini_parallel"]
    assert "Prompt t7: 1 token <audio> had no file and was removed." in messages
    assert any(message.startswith("Prompt t7: key KEY_A, answered, ") for message in messages)
    assert not any("secret words" in message or "AQ." in message for message in messages)
