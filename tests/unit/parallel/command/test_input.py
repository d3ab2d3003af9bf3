"""Prompts from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from gemini_parallel.command import input as input_file
from gemini_parallel.command.input import InputError, Line, count_lines, read_lines


def lines_of(path: Path, text: str | bytes, form: str | None = None) -> list[Line]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_lines(str(path), form))


def problems(lines: list[Line]) -> list[str]:
    return [line.task.problem.message for line in lines if line.task.problem is not None]


def test_a_wrong_line_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    text = '\ufeff{"prompt": "a"}\r\n\n{bad\n[1]\n{"prompt": "b", "id": "x"}\n\xff{"prompt": 1}\n{"prompt": "last"}'
    lines = lines_of(tmp_path / "p.jsonl", text.encode("utf-8").replace("\xff".encode(), b"\xff"))
    assert [line.number for line in lines] == [1, 3, 4, 5, 6, 7]
    assert [line.task.item is not None for line in lines] == [True, False, False, True, False, True]
    assert [line.key for line in lines] == ["line 1", "line 3", "line 4", "id x", "line 6", "line 7"]
    assert problems(lines)[0].startswith("Line 3 is not JSON: ")
    assert problems(lines)[1] == "Line 4 is not an object with a prompt."
    assert problems(lines)[2].startswith("Line 6 is not JSON: ")


def test_of_lines_with_one_id_the_first_counts(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path / "p.jsonl", '{"id": 7, "prompt": "a"}\n{"id": "7", "prompt": "b"}\n{"id": 7, "prompt": "c"}\n'
    )
    assert [line.key for line in lines] == ["id 7", "line 2", "line 3"]
    assert [line.task.item is not None for line in lines] == [True, False, False]
    assert problems(lines)[0] == "id '7' is that of an earlier line; give each prompt an id of its own."


def test_a_changed_line_has_another_digest(tmp_path: Path) -> None:
    before = lines_of(tmp_path / "p.jsonl", '{"id": 1, "prompt": "a"}\n')
    same = lines_of(tmp_path / "p.jsonl", ' {"id": 1, "prompt": "a"}  \r\n')
    after = lines_of(tmp_path / "p.jsonl", '{"id": 1, "prompt": "b"}\n')
    assert before[0].digest == same[0].digest != after[0].digest


def test_a_line_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINE_BYTES", 1 << 20)
    lines = lines_of(tmp_path / "p.jsonl", b'{"prompt": "' + b"x" * (3 << 20) + b'"}\n{"prompt": "b"}\n')
    assert problems(lines) == ["Line 1 has more than 1 MB; name files by their paths."]
    assert lines[1].task.item is not None and lines[1].number == 2


def test_columns_of_a_csv_are_fields(tmp_path: Path) -> None:
    text = (
        "\ufeffid,prompt,metadata,generation_config,audio_path\r\n"
        '1,"two\nlines, quoted","{""n"": 1}","{""temperature"": 0.5}","[""a.mp3"", ""b.mp3""]"\r\n'
        "2,plain,tag,,\r\n"
    )
    first, second = lines_of(tmp_path / "p.csv", text)
    assert first.task.item is not None and second.task.item is not None
    assert (first.key, first.task.metadata, first.task.item.config) == ("id 1", {"n": 1}, {"temperature": 0.5})
    assert [medium.source for medium in first.task.item.media] == ["a.mp3", "b.mp3"]
    assert (second.number, second.task.metadata, second.task.item.parts) == (4, "tag", ("plain",))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"prompt\n\xff\n", "is not UTF-8"),
        (b"prompt\na,b\n", "has more cells"),
        (b"prompt,metadata\na,{bad\n", "has a cell metadata that is not JSON"),
        (b"prompt,id\n,1\n", "prompt is empty"),
        (b'prompt\n"never closed\nx\ny\n', "is not CSV"),
    ],
)
def test_a_wrong_row_is_a_problem(tmp_path: Path, rows: bytes, said: str) -> None:
    lines = lines_of(tmp_path / "p.csv", rows)
    assert len(lines) == 1 and said in problems(lines)[0]


def test_a_row_that_is_too_large_does_not_end_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "MAX_LINE_BYTES", 1000)
    lines = lines_of(tmp_path / "p.csv", "prompt\nfirst\n" + "x" * 3000 + "\nlast \ufffd\n")
    assert [line.task.item is not None for line in lines] == [True, False, True]


def test_a_csv_needs_a_column_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must name the columns"):
        lines_of(tmp_path / "p.csv", "question\nx\n")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        list(read_lines(str(tmp_path)))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_lines(str(tmp_path / "missing")))


def test_prompts_are_counted_for_the_progress(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt\na\n\nb\n")
    assert (count_lines(str(path)), count_lines(str(path), "jsonl")) == (2, 3)
