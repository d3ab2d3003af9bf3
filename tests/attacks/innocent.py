"""An innocent caller in a process of its own: asks again and again until its input ends, then prints how that went.

It prints an empty line once it was answered for the first time, and makes at least MIN_REQUESTS.

    python -m tests.attacks.innocent http://127.0.0.1:8080/chat '{"prompt": "Hello"}'

A process of its own, because what it measures must not include the work of the attacker.
"""

from __future__ import annotations

import http.client
import select
import sys
import time
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import orjson

from tests.support.processes import ADMIN

PAUSE_S = 0.05
TIMEOUT_S = 30.0
MIN_REQUESTS = 10


@dataclass(slots=True)
class Experience:
    """`longest_s` is the longest time to an answer, `late_s` the longest that this process itself overslept: the part of
    a wait that is the machine's. `wrong` has what was not answered with 200."""

    answers: int = 0
    longest_s: float = 0.0
    late_s: float = 0.0
    wrong: list[str] | None = None


def ask(url: str, body: bytes) -> tuple[int, bytes]:
    """On a connection of its own, as a new caller comes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        headers = {**ADMIN, "content-type": "application/json", "x-caller-id": "innocent"}
        connection.request("POST", parts.path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def main(url: str, body: bytes) -> Experience:
    seen = Experience(wrong=[])
    assert seen.wrong is not None
    while seen.answers + len(seen.wrong) < MIN_REQUESTS or not select.select([sys.stdin], [], [], 0)[0]:
        began_s = time.monotonic()
        try:
            status, answer = ask(url, body)
        except OSError as error:
            status, answer = 0, repr(error).encode()
        ended_s = time.monotonic()
        seen.longest_s = max(seen.longest_s, ended_s - began_s)
        if status == 200:
            seen.answers += 1
        else:
            seen.wrong.append(f"{status} {answer[:200]!r} after {ended_s - began_s:.2f} s")
        time.sleep(PAUSE_S)
        seen.late_s = max(seen.late_s, time.monotonic() - ended_s - PAUSE_S)
        if seen.answers + len(seen.wrong) == 1:
            sys.stdout.write("\n")
            sys.stdout.flush()
    return seen


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asdict(main(sys.argv[1], sys.argv[2].encode()))).decode())
