"""How large files are that are sent inside a request to Gemini. Pure."""

from __future__ import annotations

INLINE_BYTES = 15 * 1024 * 1024
"""Files of one request together that are sent inside it. In base64 they have 20 MB, which Gemini and Vertex AI have always taken,
and a waiting request holds them twice. A larger file costs an upload once, and afterwards a name."""
