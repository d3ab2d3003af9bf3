"""Slow and silent senders: what never arrives keeps no memory and no turn of others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from tests.attacks.siege import Siege, besieged

SEED = int(os.environ.get("ATTACK_SEED", "1"))
ATTACK_S, BEGIN_WITHIN_S = 4.0, 1.5
SENDERS = 80
LARGE = 30 << 20

Writer = asyncio.StreamWriter


def head(length: int | None, *more: str) -> bytes:
    lines = ["POST /chat HTTP/1.1", "Host: x", "Content-Type: application/json", *more]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def trickle(writer: Writer, data: bytes, pause_s: float) -> None:
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await writer.drain()
        await asyncio.sleep(pause_s)


async def silent(dice: Random, writer: Writer) -> None:
    await asyncio.sleep(ATTACK_S)


async def half_a_head(dice: Random, writer: Writer) -> None:
    whole = head(10)
    writer.write(whole[: dice.randrange(1, len(whole))])
    await asyncio.sleep(ATTACK_S)


async def slow_head(dice: Random, writer: Writer) -> None:
    await trickle(writer, head(10, "X-Pad: " + "a" * 500), 0.2)


async def slow_body(dice: Random, writer: Writer) -> None:
    writer.write(head(LARGE))
    await trickle(writer, b'{"prompt": "' + b"a" * 200, 0.1)


async def large_body_without_end(dice: Random, writer: Writer) -> None:
    """All but the last bytes, and then nothing."""
    writer.write(head(LARGE))
    await send_large(writer, LARGE - dice.randrange(1, 100), chunked=False)
    await asyncio.sleep(ATTACK_S)


async def chunks_without_end(dice: Random, writer: Writer) -> None:
    writer.write(head(None, "X-Goog-Api-Key: " + "a" * 39))
    await send_large(writer, LARGE, chunked=True)
    await asyncio.sleep(ATTACK_S)


async def tiny_chunks(dice: Random, writer: Writer) -> None:
    writer.write(head(None))
    for _ in range(2_000):
        writer.write(b"1\r\n \r\n" * 50)
        await writer.drain()
        await asyncio.sleep(0.01)


async def expecting(dice: Random, writer: Writer) -> None:
    """Asks whether it may send, and then does not."""
    writer.write(head(LARGE, "Expect: 100-continue"))
    await asyncio.sleep(ATTACK_S)


async def deaf(dice: Random, writer: Writer) -> None:
    """Many requests on one connection, whose answers nobody reads."""
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    await asyncio.sleep(ATTACK_S)


async def send_large(writer: Writer, size: int, *, chunked: bool) -> None:
    piece = b"x" * (1 << 18)
    while size > 0:
        part = piece[:size]
        writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        await writer.drain()
        size -= len(part)


SENDER: list[Callable[[Random, Writer], Awaitable[None]]] = [
    silent, half_a_head, slow_head, slow_body, large_body_without_end, chunks_without_end, tiny_chunks, expecting, deaf,
]  # fmt: skip


async def one(siege: Siege, dice: Random, sends: Callable[[Random, Writer], Awaitable[None]]) -> None:
    await asyncio.sleep(dice.uniform(0, BEGIN_WITHIN_S))
    try:
        async with asyncio.timeout(ATTACK_S), siege.connection() as (_, writer):
            await sends(dice, writer)
    except (OSError, TimeoutError):
        pass  # The server closed the connection, or the attack is over: either may happen.


async def test_senders_that_never_end_hold_up_nobody(unpacked: Path, tmp_path: Path) -> None:
    dice = Random(f"senders {SEED}")
    async with besieged("chat", unpacked, tmp_path) as siege, siege.watched():
        sends = [*SENDER, *dice.choices(SENDER, k=SENDERS - len(SENDER))]
        await asyncio.gather(*(one(siege, Random(f"{SEED} {at}"), each) for at, each in enumerate(sends)))
