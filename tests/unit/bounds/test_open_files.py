"""How many open files a process asks for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.bounds.open_files import WANTED, raised
from shared.http.protocol import MAX_CLIENTS, client_limit


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 25_000, WANTED),
        (256, -1, WANTED),
        (1024, 4096, 4096),
        (1024, 1024, 1024),
        (20_000, 20_000, 20_000),
        (-1, -1, -1),
    ],
)
def test_limit_is_raised_up_to_the_hard_one(soft: int, hard: int, expected: int) -> None:
    assert raised(soft, hard) == expected


def test_all_clients_fit_into_what_is_wanted() -> None:
    assert client_limit(WANTED) == MAX_CLIENTS


def test_a_process_raises_its_own_limit() -> None:
    code = (
        "import resource as r; _, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (64, hard));"
        "from shared.bounds.open_files import raise_open_files, raised; raise_open_files();"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (raised(64, hard), hard) != (64, hard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
