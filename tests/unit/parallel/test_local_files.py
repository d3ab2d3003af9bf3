"""Files of this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from gemini_parallel.local_files import LocalFiles, read_whole

from shared.batch.item import Medium
from shared.errors import BadRequest


def medium(path: Path | str) -> Medium:
    return Medium("audio", "path", str(path), "audio/mp3", "audio_path[1]")


async def test_parts_and_digest_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"0123456789")
    content = await LocalFiles().open(medium(path))
    assert content.size_bytes == 10
    assert await content.read(2, 5) == b"234"
    assert await content.digest() == hashlib.sha256(b"0123456789").hexdigest()


async def test_a_file_that_changed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"one")
    content = await LocalFiles().open(medium(path))
    path.write_bytes(b"two!")
    for reading in (content.read(0, 3), content.digest()):
        with pytest.raises(BadRequest, match="changed while it was read"):
            await reading


async def test_a_digest_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"one")
    files = LocalFiles()
    first = await (await files.open(medium(path))).digest()
    monkeypatch.setattr("gemini_parallel.local_files._digest", lambda *_: "computed again")
    assert await (await files.open(medium(path))).digest() == first


async def test_the_home_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp3").write_bytes(b"one")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (await LocalFiles().open(medium("~/a.mp3"))).size_bytes == 3


async def test_what_is_no_readable_file_is_told(tmp_path: Path) -> None:
    """A named pipe must not wait for a writer."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("empty", "is empty (0 bytes)"),
        ("folder", "is a directory"),
        ("pipe", "is not a file"),
        ("missing", "No such file or directory"),
    ):
        with pytest.raises(BadRequest) as raised:
            await LocalFiles().open(medium(tmp_path / name))
        assert raised.value.message.startswith(f"audio_path[1]: {tmp_path / name} ") and said in raised.value.message
        assert raised.value.details == {"field": "audio_path[1]"}


@pytest.mark.parametrize("path", ["~nobody-of-this-name/a.mp3", "a\0b", "a\ud800b"])
async def test_what_is_no_path_is_told(path: str) -> None:
    """As JSON may have it; the other items go on."""
    with pytest.raises(BadRequest) as raised:
        await LocalFiles().open(medium(path))
    assert raised.value.message.startswith("audio_path[1]: ")
    raised.value.message.encode()


async def test_a_file_with_its_old_time_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"one")
    files = LocalFiles()
    first, before = await (await files.open(medium(path))).digest(), path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await (await files.open(medium(path))).digest() != first


async def test_a_file_for_a_gateway_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"0123456789")
    assert await read_whole(medium(path), 10) == b"0123456789"
    with pytest.raises(BadRequest, match="send a URL of it"):
        await read_whole(medium(path), 9)
