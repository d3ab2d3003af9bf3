"""The type of any file by its first bytes: images, audio, video, PDF, archives and text. Pure.

A client's own type counts only where the content does not tell: for a text (Markdown and CSV begin like any text), and for
formats that are not recognised here. Names of types are those that Gemini documents
(ai.google.dev/gemini-api/docs: image, audio, video and document understanding).
"""

from __future__ import annotations

import re

from shared.media.image_file import UNKNOWN, identify

_AT_START = (
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/wmv"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_CONTAINERS = {
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/avi",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
"""First four bytes and those from 8 to 12 (IFF and RIFF)."""
_BRANDS = {b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"qt  ": "video/quicktime"}
"""Major brands of ISO base media files (mp4ra.org); `3gp` and `3g2` have a digit more."""
_EBML, _HEAD_BYTES = b"\x1a\x45\xdf\xa3", 64
_TEXTS = frozenset({"text/plain", "text/html", "application/json", "application/xml", "image/svg+xml"})
_MORE_TEXTS = frozenset(
    {
        "application/jsonl",
        "application/x-ndjson",
        "application/yaml",
        "application/x-yaml",
        "application/javascript",
        "application/rtf",
    }
)
_RECOGNISED = frozenset(
    {
        *(kind for _, kind in _AT_START),
        *_CONTAINERS.values(),
        *_BRANDS.values(),
        *_TEXTS,
        "audio/aac",
        "application/pdf",
        "audio/webm",
        "video/3gpp",
        "video/mp4",
        "video/webm",
    }
)
"""A file that is declared as one of these, and does not begin like one, is not one."""
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}")


def type_of(data: bytes, declared: str = "") -> str:
    """`application/octet-stream` if neither the content nor the client tells."""
    found = _av_type(data) or identify(data).mime_type
    declared = declared.partition(";")[0].strip().lower()
    if found in _TEXTS:
        return declared if is_text(declared) and found in ("text/plain", "application/json") else found
    if found == "video/webm" and declared == "audio/webm":
        return declared
    if found not in (UNKNOWN, "application/zip") or not _MIME_TYPE.fullmatch(declared):
        return found
    if declared in _RECOGNISED or is_text(declared) or declared.startswith("image/"):
        return found
    return declared


def is_text(mime_type: str) -> bool:
    """Whether a file of this type is text in UTF-8."""
    return (
        mime_type in _TEXTS
        or mime_type in _MORE_TEXTS
        or (mime_type.startswith("text/") and _MIME_TYPE.fullmatch(mime_type) is not None)
    )


def _av_type(data: bytes) -> str | None:
    head = data[:_HEAD_BYTES]
    known = next((kind for start, kind in _AT_START if head.startswith(start)), None)
    if known := known or _CONTAINERS.get((head[:4], head[8:12])):
        return known
    if head[4:8] == b"ftyp" and not identify(data).mime_type.startswith("image/"):
        brand = head[8:12]
        return "video/3gpp" if brand[:3] in (b"3gp", b"3g2") else _BRANDS.get(brand, "video/mp4")
    if head.startswith(_EBML):
        return "video/webm" if b"webm" in head else "video/x-matroska"
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> str | None:
    """Both begin with eleven set bits: a frame of MPEG audio (ISO/IEC 11172-3, 2.4.2.3), here of layer II or III, and an ADTS
    header of AAC, whose layer bits are 0. JPEG (FF D8) and UTF-16 (FF FE) begin with other bits."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = head[1] & 0x06
    if not layer:
        return "audio/aac" if head[1] & 0xF0 == 0xF0 else None
    # A version, a bit rate or a sample rate that is reserved: not a frame.
    if layer == 0x06 or head[1] >> 3 & 3 == 1 or head[2] >> 4 == 15 or head[2] >> 2 & 3 == 3:
        return None
    return "audio/mpeg"
