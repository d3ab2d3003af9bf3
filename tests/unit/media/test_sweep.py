"""A folder's images are deleted after their time: on writes, at most once an hour, a bounded number at once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from shared.errors import StorageUnavailable
from shared.media import folder as folder_module
from shared.media import media as media_module
from shared.media.media import MediaStore
from shared.media.names import new_name
from shared.media.url import open_media

DAY_S = 86_400.0
HOUR_S = 3600.0


class Times:
    """The wall clock and the clock of elapsed time, both moved by the test."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(media_module, "elapsed_s", made)
    return made


@pytest.fixture
def media(tmp_path: Path, times: Times) -> MediaStore:
    return open_media(f"file://{tmp_path}", ttl_days=1, now_s=times)


async def put(media: MediaStore) -> str:
    return (await media.put_image(b"x", "image/png", metadata={})).name


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def of(*names: str) -> set[str]:
    return {path for name in names for path in (f"images/{name}", f"about/{name}.json")}


async def test_a_write_deletes_what_is_past_its_time_and_nothing_else(
    media: MediaStore, times: Times, tmp_path: Path
) -> None:
    old = await put(media)
    times.now_s += DAY_S - 1
    young = await put(media)
    assert files(tmp_path) == of(old, young)
    times.now_s += HOUR_S
    new = await put(media)
    assert files(tmp_path) == of(young, new)


async def test_it_is_looked_at_most_once_an_hour(media: MediaStore, times: Times, tmp_path: Path) -> None:
    old = await put(media)
    times.now_s += DAY_S - 10
    first = await put(media)
    times.now_s += 20
    second = await put(media)
    assert files(tmp_path) == of(old, first, second)
    times.now_s += HOUR_S - 20
    third = await put(media)
    assert files(tmp_path) == of(first, second, third)


async def test_without_an_end_nothing_is_deleted(tmp_path: Path, times: Times) -> None:
    media = open_media(f"file://{tmp_path}", now_s=times)
    old = await put(media)
    times.now_s += 10_000 * DAY_S
    new = await put(media)
    assert files(tmp_path) == of(old, new)


async def test_what_is_left_is_for_the_next_write(
    media: MediaStore, times: Times, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_MAX_SWEPT", 2)
    for _ in range(5):
        await put(media)
    times.now_s += DAY_S
    left = []
    for _ in range(4):
        await put(media)
        left.append(len(files(tmp_path / "images")))
    # Five old ones; each write adds one and, until none is left, takes two away.
    assert left == [4, 3, 3, 4]


async def test_leftovers_of_a_killed_process_are_deleted(media: MediaStore, tmp_path: Path, times: Times) -> None:
    kept = await put(media)
    names = [new_name(int(times.now_s * 1000), f"{number:032x}", "image/png") for number in range(4)]
    leftovers = [f"about/{names[0]}.json", f"images/{names[1]}#1", f"about/{names[2]}.json#1"]
    fresh = f"about/{names[3]}.json"
    for path in (*leftovers, fresh):
        (tmp_path / path).write_text("{")
    for path in leftovers:
        os.utime(tmp_path / path, (1, 1))
    times.now_s += HOUR_S
    new = await put(media)
    assert files(tmp_path) == {*of(kept, new), fresh}


async def test_several_processes_sweep_one_folder(tmp_path: Path, times: Times) -> None:
    processes = [open_media(f"file://{tmp_path}", ttl_days=1, now_s=times) for _ in range(4)]
    await asyncio.gather(*(put(media) for media in processes for _ in range(20)))
    times.now_s += DAY_S
    names = await asyncio.gather(*(put(media) for media in processes))
    assert files(tmp_path) == of(*names)


async def test_undeletable_image_does_not_block_storing(media: MediaStore, times: Times, tmp_path: Path) -> None:
    name = new_name(int(times.now_s * 1000), "0" * 32, "image/png")
    await put(media)
    (tmp_path / "images" / name).mkdir()
    times.now_s += DAY_S
    new = await put(media)
    assert files(tmp_path) == of(new)
    assert (tmp_path / "images" / name).is_dir()


async def test_failing_folder_is_reported_first(media: MediaStore, times: Times, tmp_path: Path) -> None:
    """Before anything is deleted."""
    old = await put(media)
    times.now_s += DAY_S
    (tmp_path / "about").rename(tmp_path / "moved")
    (tmp_path / "about").write_text("not a folder")
    with pytest.raises(StorageUnavailable):
        await put(media)
    assert (tmp_path / "images" / old).exists()
