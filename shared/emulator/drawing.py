"""Draws an image for a prompt: a seeded pattern with the prompt's text on it, as a real PNG (or JPEG).

With Pillow the text is drawn, in a system font with Chinese if there is one (Debian: fonts-noto-cjk); characters that the
font lacks are drawn as escapes (\\u6708), since an empty box carries no information. Without Pillow there is only the
pattern, always as PNG. Real models return megabytes; these images are small.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError:
    Image = None  # type: ignore[assignment]

_TILES = 8
_COLOURS = 6
_PAPER, _INK = _COLOURS, _COLOURS + 1
_LEVEL = 1
_LINES = 8
_MAX_CHARS = 6_000
"""More than the lines can hold; Pillow accepts at most a million."""
_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/STHeiti Light.ttc",
    "C:/Windows/Fonts/msyh.ttc",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
)
_IN_NO_FONT = "\uffff"


def draw(text: str, seed: int, width: int, height: int, mime_type: str = "image/png") -> tuple[bytes, str]:
    """The file and its MIME type. The same arguments give the same image."""
    rng = random.Random(seed)
    palette = _palette(rng)
    rows = _pattern(rng, width, height)
    if Image is None:
        return _png(rows, width, height, palette), "image/png"
    image = Image.frombytes("P", (width, height), b"".join(rows))
    image.putpalette(palette)
    if text:
        _write(image, text)
    if mime_type == "image/jpeg":
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=85)
        return file.getvalue(), mime_type
    data = image.tobytes()
    return _png([data[at : at + width] for at in range(0, len(data), width)], width, height, palette), "image/png"


def _palette(rng: random.Random) -> bytes:
    """Soft colours, then paper and ink."""
    hue = [rng.randint(90, 190) for _ in range(3)]
    colours = [[min(255, max(0, part + rng.randint(-60, 60))) for part in hue] for _ in range(_COLOURS)]
    return bytes(part for colour in [*colours, [250, 248, 240], [24, 24, 32]] for part in colour)


def _pattern(rng: random.Random, width: int, height: int) -> list[bytes]:
    """A grid of tiles, one byte per pixel: each row of tiles is computed once."""
    edges = [width * tile // _TILES for tile in range(_TILES + 1)]
    rows: list[bytes] = []
    for tile in range(_TILES):
        colours = [rng.randrange(_COLOURS) for _ in range(_TILES)]
        line = b"".join(bytes([c]) * (edges[i + 1] - edges[i]) for i, c in enumerate(colours))
        rows += [line] * (height * (tile + 1) // _TILES - height * tile // _TILES)
    return rows


def _png(rows: list[bytes], width: int, height: int, palette: bytes) -> bytes:
    """W3C PNG: 8 bits a pixel, indexed, every row unfiltered."""
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), _LEVEL)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _write(image: Any, text: str) -> None:
    """The text on a strip of paper across the middle, in as many lines as it needs, up to _LINES."""
    width, height = image.size
    size = max(10, min(width, height) // 18)
    font = _font(size)
    legible = _legible(" ".join(text[:_MAX_CHARS].split()), font)[:_MAX_CHARS]
    lines = _wrapped(legible, font, width - 2 * size)
    pen = ImageDraw.Draw(image)
    step = size * 3 // 2
    top = (height - step * len(lines)) // 2
    pen.rectangle((0, top - size // 2, width, top + step * len(lines)), fill=_PAPER)
    for number, line in enumerate(lines):
        pen.text((size, top + step * number), line, fill=_INK, font=font)


@cache
def _font(size: int) -> Any:
    for path in _FONTS:
        if Path(path).exists():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def _legible(text: str, font: Any) -> str:
    """`text` with escapes for the characters that the font lacks: it draws the same glyph for all of them."""
    lacking = _sign(_IN_NO_FONT, font)
    codes = {
        ord(char): char.encode("unicode_escape").decode()
        for char in set(text)
        if char != " " and _sign(char, font) == lacking
    }
    return text.translate(codes)


def _sign(char: str, font: Any) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)


def _wrapped(text: str, font: Any, room: int) -> list[str]:
    """Breaks lines between words if there are any, else anywhere: Chinese has no spaces."""
    lines: list[str] = []
    while text and len(lines) < _LINES:
        fits = len(text)
        while fits > 1 and font.getlength(text[:fits]) > room:
            fits = min(fits - 1, int(fits * room / font.getlength(text[:fits])) + 1)
        space = text.rfind(" ", 1, fits + 1) if fits < len(text) else -1
        end = space if space > fits // 2 else fits
        lines.append(text[:end])
        text = text[end:].lstrip()
    if text:
        lines[-1] = lines[-1][:-1] + "…"
    return lines
