"""Writes functions/BAD_INPUT.md from the gateway's responses: `python -m tests.bad_input`."""

from __future__ import annotations

import asyncio
import sys

from tests.bad_input.table import DOCUMENT, written


def main() -> int:
    DOCUMENT.write_text(asyncio.run(written()))
    print(DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
