"""Reading multipart/form-data: parts, names and bounds, however the bytes are cut."""

from __future__ import annotations

import pytest

from shared.errors import BadRequest, UnsupportedMediaType
from shared.http.multipart import (
    MAX_BOUNDARY_BYTES,
    MAX_FILENAME_CHARS,
    MAX_HEADER_BYTES,
    MAX_PADDING_BYTES,
    MAX_PARTS,
    Multipart,
    Part,
    boundary_of,
)

TEXT = b'Content-Disposition: form-data; name="purpose"\r\n\r\nuser_data'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\nPNG\r\n--not-b\r\n'


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def parsed(body: bytes, step: int | None = None) -> list[tuple[Part, bytes]]:
    """The parts of a whole form with their content; the body is fed in pieces of `step` bytes."""
    reader, found = Multipart(b"b"), list[tuple[Part, bytes]]()
    for at in range(0, len(body), step or len(body)):
        for piece in reader.feed(body[at : at + (step or len(body))]):
            if isinstance(piece, Part):
                found.append((piece, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + piece)
    reader.close()
    return found


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parsed(body)
    return caught.value


def with_name(disposition: bytes) -> Part:
    return parsed(form(b"Content-Disposition: " + disposition + b"\r\n\r\nx"))[0][0]


@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 64])
def test_parts_do_not_depend_on_how_bytes_are_cut(step: int | None) -> None:
    assert parsed(form(TEXT, FILE), step) == [
        (Part("purpose", None, ""), b"user_data"),
        (Part("file", "a.png", "image/png"), b"PNG\r\n--not-b\r\n"),
    ]


def test_empty_part_is_found() -> None:
    assert parsed(form(b'Content-Disposition: form-data; name="a"\r\n\r\n')) == [(Part("a", None, ""), b"")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"../../etc/passwd", "passwd"),
        (b"C:\\photos\\a.png", "a.png"),
        (b"..\\a\\..", ""),
        (b"a/b/", ""),
        (b"a\tb.txt", "ab.txt"),
        ("日本.png".encode(), "日本.png"),
        (b"caf\xe9.png", "caf�.png"),
        (b"", ""),
    ],
)
def test_file_name_is_the_last_segment(given: bytes, kept: str) -> None:
    assert with_name(b'form-data; name="file"; filename="' + given + b'"').filename == kept


def test_extended_file_name_does_not_replace_the_plain_one() -> None:
    """RFC 7578, 4.2 forbids `filename*`: two programs could read two names."""
    assert with_name(b'form-data; name="f"; filename="a"; filename*=UTF-8\'\'b').filename == "a"


def test_long_file_name_is_rejected() -> None:
    name = b"a" * (MAX_FILENAME_CHARS + 1)
    error = refused(form(b'Content-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\nx'))
    assert error.details == {"field": "file"}
    assert "256 characters" in error.message


@pytest.mark.parametrize(
    "head",
    [b"", b"Content-Disposition: form-data\r\n", b'Content-Disposition: attachment; name="a"\r\n', b"X: y\r\n"],
)
def test_part_without_a_name_is_rejected(head: bytes) -> None:
    assert "Part 2 of the form has no name" in refused(form(TEXT, head + b"\r\nx")).message


def test_transfer_encoding_is_rejected() -> None:
    """A client that encodes its files would otherwise store base64 without noticing."""
    part = b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Transfer-Encoding: base64\r\n\r\neA=='
    assert refused(form(part)).details == {"field": "file"}


@pytest.mark.parametrize("body", [form(TEXT, end=b""), form(TEXT)[:-5], form(TEXT, end=b"--b"), b"--b", b"\r\n"])
def test_truncated_form_is_rejected(body: bytes) -> None:
    assert "incomplete" in refused(body).message


def test_other_boundary_is_rejected() -> None:
    assert "does not begin with the boundary" in refused(b"--c\r\n" + TEXT + b"\r\n--c--\r\n").message


def test_other_boundary_after_the_first_is_content() -> None:
    assert "incomplete" in refused(b"--b\r\n" + TEXT + b"\r\n--c--\r\n").message


def test_number_of_parts_is_bounded() -> None:
    assert len(parsed(form(*[TEXT] * MAX_PARTS))) == MAX_PARTS
    assert refused(form(*[TEXT] * (MAX_PARTS + 1))).details == {"limit_parts": MAX_PARTS}


@pytest.mark.parametrize(
    "head", [b"X: " + b"y" * MAX_HEADER_BYTES, b"\r\n".join([b"X: y"] * 9), b"X" * (MAX_HEADER_BYTES + 1)]
)
def test_headers_of_a_part_are_bounded(head: bytes) -> None:
    assert "headers" in refused(form(head + b"\r\n" + TEXT)).message


def test_invalid_header_is_rejected() -> None:
    assert "Part 1 of the form has invalid headers" in refused(form(b"a b\r\n\r\nx")).message


@pytest.mark.parametrize("step", [None, 1, 100])
def test_spaces_after_a_boundary_are_bounded(step: int | None) -> None:
    """They are allowed, but the parser reads them one by one."""
    padded = form(TEXT, TEXT).replace(b"data\r\n--b", b"data\r\n--b" + b" " * MAX_PADDING_BYTES, 1)
    assert parsed(padded, step) == [(Part("purpose", None, ""), b"user_data")] * 2
    with pytest.raises(BadRequest, match="spaces"):
        parsed(padded.replace(b"--b ", b"--b " + b" \t" * 8192, 1), step)


def test_boundary_is_read() -> None:
    assert boundary_of("multipart/form-data; boundary=abc") == b"abc"
    assert boundary_of('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"


@pytest.mark.parametrize("rest", ["", "; boundary=", "; boundary=" + "a" * (MAX_BOUNDARY_BYTES + 1)])
def test_missing_boundary_names_the_header(rest: str) -> None:
    with pytest.raises(BadRequest) as caught:
        boundary_of("multipart/form-data" + rest)
    assert caught.value.details == {"field": "content-type"}


@pytest.mark.parametrize("given", ["", "application/json", "multipart/mixed; boundary=a"])
def test_other_types_are_rejected(given: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="multipart/form-data"):
        boundary_of(given)
