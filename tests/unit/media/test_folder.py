"""Files of a folder belong to one user: whoever can list them has the names, which are the images' only credential."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import StorageUnavailable
from shared.media.url import open_media


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in (root, *root.rglob("*"))}


async def test_images_and_folders_are_private(tmp_path: Path) -> None:
    root = tmp_path / "made" / "storage"
    image = await open_media(f"file://{root}").put_image(b"bytes", "image/png", metadata={})
    folders = {"storage": "0o700", "images": "0o700", "about": "0o700"}
    assert modes(root) == {**folders, image.name: "0o600", f"{image.name}.json": "0o600"}


async def test_existing_image_folders_become_private(tmp_path: Path) -> None:
    """An earlier version made them readable. The root's own mode stays, since it may have other uses."""
    root = tmp_path / "storage"
    for folder in (root, root / "images", root / "about"):
        folder.mkdir(mode=0o755)
    open_media(f"file://{root}")
    assert modes(root) == {"storage": "0o755", "images": "0o700", "about": "0o700"}


async def test_folders_that_were_deleted_are_private_again(tmp_path: Path) -> None:
    root = tmp_path / "storage"
    media = open_media(f"file://{root}")
    (root / "images").rmdir()
    image = await media.put_image(b"bytes", "image/png", metadata={})
    assert modes(root)["images"] == "0o700"
    assert (await media.read(image.name)).data == b"bytes"


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="not a directory"):
        open_media(f"file://{tmp_path}/file/storage")


async def test_a_folder_signs_no_urls(tmp_path: Path) -> None:
    media = open_media(f"file://{tmp_path}")
    image = await media.put_image(b"bytes", "image/png", metadata={})
    with pytest.raises(RuntimeError, match="no signed URLs"):
        await media.signed_url(image.name, 60)
