"""GET /try: the page of page/try.html. Its script and style are in the file itself, and nothing else may run in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from shared.http.content import REVALIDATE, Content

FILE = Path(__file__).resolve().parent / "page" / "try.html"


@cache
def page() -> Content:
    html = FILE.read_bytes()
    headers = {"content-security-policy": policy(html), "referrer-policy": "no-referrer"}
    return Content(html, "text/html", REVALIDATE, headers)


def policy(html: bytes) -> str:
    """The Content-Security-Policy that allows exactly the page's own <script> and <style>, by their hashes."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(html, b'script')}",
            f"style-src {_hashes(html, b'style')}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _hashes(html: bytes, tag: bytes) -> str:
    contents = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'" for content in contents)
