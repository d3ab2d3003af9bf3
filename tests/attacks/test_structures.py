"""Bodies of every structure: what is read before anybody is known takes no memory and no time from others."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.attacks.siege import Siege, besieged

MB = 1 << 20
SEED = int(os.environ.get("ATTACK_SEED", "1"))
WHOLE, PART = 31 * MB, 8 * MB
KEYS: tuple[dict[str, str], ...] = ({}, {"authorization": "Bearer aaaaaaaaaa"}, {"x_goog_api_key": "a" * 39})
"""Nobody, and keys that nobody has checked."""


def filled(unit: bytes, size: int, opening: bytes, closing: bytes) -> bytes:
    """`unit` again and again, separated by commas, as the field `a` beside a prompt."""
    count = max(1, size // (len(unit) + 1))
    return b'{"prompt":"hi","a":' + opening + b",".join([unit] * count) + closing + b"}"


def _members(dice: Random, size: int) -> bytes:
    """No name twice. They are made by the block: one by one would take seconds in which nobody attacks."""
    width = dice.choice([2, 8])
    block = b",".join(b'"@%04x":1' % number for number in range(1 << 16))
    blocks = range(size // (len(block) + 1 + (1 << 16) * (width - 1)))
    return b'{"prompt":"hi","a":{' + b",".join(block.replace(b"@", b"%0*x" % (width, at)) for at in blocks) + b"}}"


def _turns(dice: Random, size: int) -> bytes:
    """Contents with many turns, or one turn with many parts."""
    part = b'{"text":"%s"}' % (b"x" * dice.choice([0, 1, 30]))
    parts = b",".join([part] * (size // (len(part) + 1)))
    return b'{"contents":[{"role":"user","parts":[' + parts + b"]}]}"


def _nested(dice: Random, size: int) -> bytes:
    depth = dice.choice([100, 1_000, 1_030])
    unit = b"[" * depth + b"]" * depth
    return filled(unit, size, b"[", b"]")


def _cut(dice: Random, size: int) -> bytes:
    """What looks like JSON until its last bytes."""
    return filled(b"[]", size, b"[", b"]")[: -dice.randint(1, 3)]


STRUCTURES: dict[str, Callable[[Random, int], bytes]] = {
    "arrays": lambda dice, size: filled(dice.choice([b"[]", b"[[]]", b"[0]"]), size, b"[", b"]"),
    "objects": lambda dice, size: filled(dice.choice([b"{}", b'{"":0}', b'{"a":{}}']), size, b"[", b"]"),
    "members": _members,
    "same names": lambda dice, size: filled(b'"a":1', size, b"{", b"}"),
    "numbers": lambda dice, size: filled(dice.choice([b"0", b"-1.5e300", b"9" * 400, b"1e-9999"]), size, b"[", b"]"),
    "texts": lambda dice, size: filled(dice.choice([b'""', b'"\\u0000"', '"ä"'.encode(), b'"\\\\"']), size, b"[", b"]"),
    "escapes": lambda dice, size: filled(b'"' + b"\\ud83d\\ude00" * (size // 12) + b'"', 1, b"", b""),
    "words": lambda dice, size: filled(dice.choice([b"null", b"true"]), size, b"[", b"]"),
    "turns": _turns,
    "nested": _nested,
    "open brackets": lambda dice, size: b'{"prompt":' + b"[" * size,
    "one text": lambda dice, size: b'{"prompt":"' + b"a" * size + b'"}',
    "commas": lambda dice, size: b'{"prompt":"' + b",[{" * (size // 3) + b'"}',
    "cut": _cut,
    "zeros": lambda dice, size: bytes(size),
}


async def attack(siege: Siege, dice: Random) -> None:
    """Each structure once at full size, by nobody or by a made-up key; then several smaller ones at once."""
    for make in STRUCTURES.values():
        await siege.post(make(dice, WHOLE), **dice.choice(KEYS))
    for _ in range(2):
        makes = dice.sample(list(STRUCTURES.values()), 6)
        await asyncio.gather(*(siege.post(make(dice, PART), **dice.choice(KEYS)) for make in makes))


async def test_no_structure_stops_the_others(unpacked: Path, tmp_path: Path) -> None:
    async with besieged("chat", unpacked, tmp_path) as siege:
        async with siege.watched():
            await attack(siege, Random(f"bodies {SEED}"))
        assert siege.statuses[413] + siege.statuses[400] + siege.statuses[401] > 0


@pytest.mark.parametrize("function", ["structured_output"])
async def test_the_same_bodies_at_another_function(function: str, unpacked: Path, tmp_path: Path) -> None:
    async with besieged(function, unpacked, tmp_path) as siege, siege.watched():
        dice = Random(f"others {SEED}")
        for make in dice.sample(list(STRUCTURES.values()), 5):
            await siege.post(make(dice, WHOLE), **dice.choice(KEYS))


def images(dice: Random) -> list[bytes]:
    """Large images, some of them none at the very end, as base64 in JSON."""
    pixels = dice.randbytes(1 << 16)
    sizes = [5 * MB, 10 * MB, 22 * MB]
    whole = [base64.b64encode(b"\x89PNG\r\n\x1a\n" + (pixels * (size >> 16))) for size in sizes]
    spoilt = [text[:-1] + dice.choice([b"!", b"=", b" ", b"A="]) for text in whole]
    return [b'{"image":"' + text + b'"}' for text in (*whole, *spoilt, b"A" * (31 * MB), b"AAA=" * (7 * MB))]


async def test_large_images_stop_nobody(unpacked: Path, tmp_path: Path) -> None:
    async with besieged("image_analysis", unpacked, tmp_path) as siege, siege.watched():
        dice = Random(f"images {SEED}")
        for body in images(dice):
            await siege.post(body, **dice.choice(KEYS[1:]))
        large = images(dice)[2]
        await asyncio.gather(*(siege.post(large, **KEYS[1]) for _ in range(4)))
