"""The parts of a message: texts, images, recordings, files and videos."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from shared.errors import BadRequest
from shared.http.bodies import read
from shared.openai_format import parts as module
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.translation import MAX_FILES, MAX_URLS, Resolved, check_size, references
from tests.support.image_samples import written
from tests.support.openai_chat import NOTHING, contents, refused

PNG = b64encode(written("PNG")).decode()
PDF = b64encode(b"%PDF-1.7\n").decode()
SOUND = b64encode(b"RIFF\x01\x02\x03").decode()
STORED = {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x", "mimeType": "application/pdf"}}
FETCHED = {"inlineData": {"mimeType": "image/png", "data": PNG}}
ADDRESS = "https://example.com/cat.png"


def of(part: dict[str, Any], resolved: Resolved = NOTHING) -> Any:
    """A part as it is sent; the offline Gemini accepts it."""
    message = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}
    found = contents(message, resolved=resolved)[0]["parts"]
    assert found[0] == {"text": "What is it?"}
    return found[1]


def inline(mime_type: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def file(**content: Any) -> dict[str, Any]:
    return {"type": "file", "file": content}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def test_image_in_a_data_url_has_the_type_of_its_bytes() -> None:
    """Clients write image/jpg, or guess."""
    for stated in ("image/png", "image/jpg", "application/octet-stream"):
        assert of(image(f"data:{stated};base64,{PNG}", detail="high")) == inline("image/png", PNG)
    assert of({"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"}) == inline("image/png", PNG)


def test_other_media_in_an_image_url_keeps_its_type() -> None:
    assert of(image(f"data:application/pdf;base64,{PDF}")) == inline("application/pdf", PDF)


@pytest.mark.parametrize("part", [image(ADDRESS), {"type": "image_url", "image_url": ADDRESS}])
def test_address_of_an_image_is_resolved(part: dict[str, Any]) -> None:
    assert of(part, Resolved(urls={ADDRESS: FETCHED})) == FETCHED


@pytest.mark.parametrize(
    "part",
    [file(file_id="file-1"), file(id="file-1"), {"type": "file", "file_id": "file-1"}],
)
def test_stored_file_is_resolved(part: dict[str, Any]) -> None:
    """The SDK's shape, and both shapes of the program before this one."""
    assert of(part, Resolved(files={"file-1": STORED})) == STORED


def test_recording_has_the_type_of_its_format() -> None:
    for stated, mime_type in (("wav", "audio/wav"), ("mp3", "audio/mp3"), ("flac", "audio/flac")):
        part = {"type": "input_audio", "input_audio": {"data": SOUND, "format": stated}}
        assert of(part) == inline(mime_type, SOUND)


TEXT = b64encode(b"a,b\n1,2\n").decode()


@pytest.mark.parametrize(
    ("content", "mime_type"),
    [
        ({"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}, "application/pdf"),
        ({"file_data": PDF}, "application/pdf"),
        ({"file_data": f"data:text/csv;base64,{TEXT}"}, "text/csv"),
        ({"file_data": TEXT, "filename": "table.CSV"}, "text/csv"),
        ({"file_data": TEXT, "filename": "notes.md"}, "text/plain"),
        ({"file_data": TEXT}, "text/plain"),
        ({"file_data": TEXT, "format": "text/csv"}, "text/csv"),
        ({"file_data": f"data:application/json;base64,{TEXT}"}, "text/plain"),
        ({"file_data": f"data:text/markdown;charset=utf-8;base64,{TEXT}"}, "text/plain"),
        ({"file_data": f"data:application/octet-stream;base64,{TEXT}", "filename": "a.csv"}, "text/csv"),
        ({"file_data": f"data:video/mp4;base64,{SOUND}"}, "video/mp4"),
    ],
)
def test_file_has_a_type_that_gemini_takes(content: dict[str, Any], mime_type: str) -> None:
    data = str(content["file_data"]).rpartition(",")[2]
    assert of(file(**content)) == inline(mime_type, data)


def test_video_is_inline_or_on_youtube() -> None:
    address = "https://www.youtube.com/watch?v=x"
    assert of({"type": "video_url", "video_url": {"url": address}}) == {"fileData": {"fileUri": address}}
    assert of({"type": "video_url", "video_url": f"data:video/mp4;base64,{SOUND}"}) == inline("video/mp4", SOUND)
    field, message = refused_part({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}})
    assert field == "messages[0].content[0].video_url.url"
    assert "YouTube" in message


def test_line_breaks_and_the_other_alphabet_are_normalized() -> None:
    data = b64encode(b"%PDF-\xff\xfe\xfd").decode()
    urlsafe = data.replace("+", "-").replace("/", "_").rstrip("=")
    assert data != urlsafe
    assert of(file(file_data=f"{urlsafe[:4]}\n{urlsafe[4:]}")) == inline("application/pdf", data)


# -- refused -----------------------------------------------------------------------------------------------------------


def refused_part(part: dict[str, Any]) -> tuple[str | None, str]:
    return refused({"messages": [{"role": "user", "content": [part]}]})


GIF = b64encode(written("GIF")).decode()


@pytest.mark.parametrize(
    ("part", "field", "says"),
    [
        (image(f"data:image/gif;base64,{GIF}"), "image_url.url", "GIF"),
        (image(f"data:image/png;base64,{PNG[:200]}"), "image_url.url", "cut off"),
        (image("data:image/png,abc"), "image_url.url", "must be in base64"),
        (image(f"data:image/png;base64,{SOUND}"), "image_url.url", "not an image"),
        (image(""), "image_url.url", "is empty"),
        ({"type": "image_url"}, "image_url", "is required"),
        ({"type": "text"}, "text", "is required"),
        ({"type": "text", "file": {}}, "file.file_id", "exactly one"),
        (file(), "file.file_id", "exactly one"),
        (file(file_id="a", file_data=PDF), "file.file_id", "exactly one"),
        ({"type": "file", "file_id": "a", "file": {"file_id": "a"}}, "file_id", "mutually exclusive"),
        (file(file_data="a b"), "file.file_data", "base64"),
        (file(file_data=SOUND), "file.file_data", "no known type"),
        (file(file_data=f"data:x;base64,{SOUND}"), "file.file_data", "no known type"),
        (
            {"type": "input_audio", "input_audio": {"data": SOUND, "format": "W A V"}},
            "input_audio.format",
            "wav or mp3",
        ),
        ({"type": "input_audio", "input_audio": {"data": "=", "format": "wav"}}, "input_audio.data", "base64"),
        ({"type": "image", "source": {}}, "source", "Unknown field"),
    ],
)
def test_wrong_part_is_refused_by_its_field(part: dict[str, Any], field: str, says: str) -> None:
    named, message = refused_part(part)
    assert named == f"messages[0].content[0].{field}"
    assert says in message


def test_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEDIA_BYTES", 2**20)
    for size_bytes in (2**20 + 1, 2**21):
        field, message = refused_part(file(file_data=b64encode(b"%PDF-" + bytes(size_bytes)).decode()))
        assert field == "messages[0].content[0].file.file_data"
        assert "larger than 1 MB" in message


# -- references --------------------------------------------------------------------------------------------------------


def test_references_name_each_thing_once_with_its_first_field() -> None:
    content = [image(ADDRESS), file(file_id="a"), {"type": "file", "file_id": "b"}, file(id="a"), image(ADDRESS)]
    body = read(ChatBody, {"messages": [{"role": "user", "content": content}]})
    found = references(body)
    assert found.urls == {ADDRESS: "messages[0].content[0].image_url.url"}
    assert found.file_ids == {"a": "messages[0].content[1].file.file_id", "b": "messages[0].content[2].file_id"}


def test_what_is_named_again_counts_again() -> None:
    """A body of 31 MB can name a file of 20 MB a hundred thousand times."""
    content = [image(ADDRESS), file(file_id="a"), {"type": "file", "file_id": "a"}, file(id="a")]
    names = references(read(ChatBody, {"messages": [{"role": "user", "content": content}] * 2}))
    found = Resolved({"a": {"inlineData": {"mimeType": "text/plain", "data": "QUJD"}}}, {ADDRESS: FETCHED})
    size_bytes = 6 * 4 + 2 * len(PNG)
    assert check_size(names, found, size_bytes) == size_bytes
    with pytest.raises(BadRequest, match="as often as it is named"):
        check_size(names, found, size_bytes - 1)


def test_contents_of_the_body_are_no_references() -> None:
    body = read(ChatBody, {"messages": [{"role": "user", "content": [image(f"data:image/png;base64,{PNG}")]}]})
    assert not references(body).urls


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([image(f"{ADDRESS}?{number}") for number in range(MAX_URLS + 1)], "64 addresses"),
        ([file(file_id=f"file-{number}") for number in range(MAX_FILES + 1)], "500 stored files"),
    ],
)
def test_number_of_references_is_bounded(parts: list[Any], says: str) -> None:
    field, message = refused({"messages": [{"role": "user", "content": parts}]})
    assert field == "messages"
    assert says in message
