"""Ids and entries of stored files."""

from __future__ import annotations

import pytest

from shared.files.record import StoredFile, digits_of, is_id, new_id

RANDOM = "0123456789abcdef" * 2


def test_entry_survives_the_store() -> None:
    file = StoredFile(new_id(1.0, RANDOM), "name", "日本\U0001f600.txt", "user_data", "text/plain", 3, 1, 2)
    assert StoredFile.unpack(file.pack()) == file


def test_newer_files_have_lower_digits() -> None:
    old, new = new_id(1_800_000_000.0, RANDOM), new_id(1_800_000_000.001, RANDOM)
    assert digits_of(new) < digits_of(old)
    assert is_id(old)
    assert is_id(new)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file-",
        "file-" + "0" * 43,
        "file-" + "0" * 45,
        "file-" + "G" * 44,
        "file-" + "0" * 44 + "\n",
        "FILE-" + "0" * 44,
        "file-" + "../" * 14 + "00",
        "0" * 44,
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text)
