"""Real image files of every kind that is distinguished, made with Pillow; HEIC and the rarer forms box by box."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

SIZE = (300, 7)


def picture(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    return Image.effect_noise(size, 50).convert(mode)


def written(kind: str, size: tuple[int, int] = SIZE, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    picture(size, mode).save(file, kind, **options)
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def item_locations(version: int, extents: Sequence[tuple[int, int, int]]) -> bytes:
    """`iloc`: (construction method, offset, length) of one item each, with 4 bytes for offset and length."""
    wide = ">I" if version == 2 else ">H"
    entries = b"".join(
        struct.pack(wide, number & 0xFFFF)
        + (struct.pack(">H", method) if version else b"")
        + struct.pack(">HHII", 0, 1, offset, length)
        for number, (method, offset, length) in enumerate(extents, 1)
    )
    return box(b"iloc", bytes([version, 0, 0, 0]) + b"\x44\x00" + struct.pack(wide, len(extents)) + entries)


def heif(
    brand: bytes,
    *sizes: tuple[int, int],
    compatible: bytes = b"mif1",
    version: int = 1,
    in_idat: int = 0,
    open_ended: bool = False,
    data_bytes: int = 100,
) -> bytes:
    """A file in ISO 23008-12's order with one item of `data_bytes` for each size. `in_idat`: bytes of one more item that is
    in the `idat` box, as the description of a grid is; `open_ended`: the length of `mdat` is left at 0."""
    properties = b"".join(box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in sizes)
    iprp = box(b"iprp", box(b"ipco", box(b"hvcC", bytes(20)) + properties))
    ftyp = box(b"ftyp", brand + bytes(4) + compatible)
    idat = box(b"idat", bytes(in_idat)) if in_idat else b""

    def meta(first: int) -> bytes:
        items = [(0, first + number * data_bytes, data_bytes) for number in range(len(sizes))]
        items += [(1, 0, in_idat)] if in_idat else []
        return box(b"meta", bytes(4) + box(b"hdlr", bytes(24)) + iprp + item_locations(version, items) + idat)

    begin = ftyp + meta(len(ftyp) + len(meta(0)) + 8)
    mdat = box(b"mdat", bytes(range(data_bytes)) * len(sizes))
    return begin + (bytes(4) + mdat[4:] if open_ended else mdat)


def sequence(brand: bytes = b"hevc") -> bytes:
    """A file with frames and without items."""
    return box(b"ftyp", brand + bytes(4) + b"msf1") + box(b"moov", bytes(60)) + box(b"mdat", bytes(range(200)))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg_with_thumbnail() -> bytes:
    """A JPEG with a whole JPEG within its EXIF segment, as cameras write it, which ends long before the file."""
    exif = Image.Exif()
    exif[0x010E] = "thumbnail"
    raw = exif.tobytes() + written("JPEG", (8, 8))
    return written("JPEG", exif=raw)


def jpeg_with_filling() -> bytes:
    """A JPEG with several FF before each marker between the segments, which T.81 B.1.1.2 allows."""
    data = written("JPEG")
    scan = data.index(b"\xff\xda")
    head, at = b"\xff\xd8", 2
    while at < scan:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        head, at = head + b"\xff\xff\xff" + data[at : at + length], at + length
    return head + b"\xff\xff" + data[scan:-2] + b"\xff\xff\xff\xd9"


def jpeg_with_number_of_lines() -> bytes:
    """A JPEG whose height is 0 in the frame and given after the first scan (T.81 B.2.5)."""
    data = written("JPEG")
    frame = data.index(b"\xff\xc0")
    lines = data[frame + 5 : frame + 7]
    return data[: frame + 5] + bytes(2) + data[frame + 7 : -2] + b"\xff\xdc\x00\x04" + lines + b"\xff\xd9"


def _frames(kind: str, **options: Any) -> bytes:
    return written(kind, save_all=True, append_images=[picture() for _ in range(3)], duration=50, **options)


SAMPLES: dict[str, tuple[str, bytes]] = {
    "PNG": ("image/png", written("PNG")),
    "PNG, palette": ("image/png", written("PNG", mode="P")),
    "PNG, large": ("image/png", written("PNG", (640, 480))),
    "APNG": ("image/png", _frames("PNG")),
    "JPEG": ("image/jpeg", written("JPEG")),
    "JPEG, grey": ("image/jpeg", written("JPEG", mode="L")),
    "JPEG, progressive": ("image/jpeg", written("JPEG", (640, 480), progressive=True)),
    "JPEG, restarts": ("image/jpeg", written("JPEG", restart_marker_blocks=1)),
    "JPEG, comment": ("image/jpeg", written("JPEG", comment=b"\xff\xc0 and \xff\xd9 in a comment")),
    "JPEG, thumbnail": ("image/jpeg", jpeg_with_thumbnail()),
    "JPEG, filling": ("image/jpeg", jpeg_with_filling()),
    "JPEG, lines": ("image/jpeg", jpeg_with_number_of_lines()),
    "WebP": ("image/webp", written("WEBP")),
    "WebP, lossless": ("image/webp", written("WEBP", lossless=True)),
    "WebP, extended": ("image/webp", written("WEBP", exif=b"Exif\0\0" + bytes(51))),
    "WebP, alpha": ("image/webp", written("WEBP", mode="RGBA")),
    "WebP, animated": ("image/webp", _frames("WEBP")),
    "GIF": ("image/gif", written("GIF")),
    "GIF, animated": ("image/gif", _frames("GIF")),
    "BMP": ("image/bmp", written("BMP")),
    "AVIF": ("image/avif", written("AVIF")),
    "AVIF, by hand": ("image/avif", heif(b"avif", SIZE)),
    "HEIC": ("image/heic", heif(b"heic", SIZE)),
    "HEIC, version 0": ("image/heic", heif(b"heic", SIZE, version=0)),
    "HEIC, version 2": ("image/heic", heif(b"heic", SIZE, version=2)),
    "HEIC, tiles": ("image/heic", heif(b"heic", (100, 7), SIZE, (100, 7), in_idat=8)),
    "HEIC, open": ("image/heic", heif(b"heic", SIZE, open_ended=True)),
    "HEIF": ("image/heif", heif(b"mif1", SIZE)),
}
"""Name -> (type, file). Every one has SIZE, or 640 x 480 pixels."""
