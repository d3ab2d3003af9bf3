"""Free ports for tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.tied import FIRST_PORT, PORTS_PER_BLOCK, _reserved_ports, free_port


def test_free_port_never_repeats_a_port() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20


def test_two_processes_get_ports_of_different_blocks(tmp_path: Path) -> None:
    """Each generator holds the lock of its block, as each process does."""
    first, second = _reserved_ports(tmp_path), _reserved_ports(tmp_path)
    blocks = [(next(ports) - FIRST_PORT) // PORTS_PER_BLOCK for ports in (first, second)]
    assert blocks == [0, 1]


def test_a_port_in_use_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
        taken = server.getsockname()[1]
        monkeypatch.setattr("tests.support.tied.FIRST_PORT", taken)
        assert next(_reserved_ports(tmp_path)) > taken


def test_exhausted_port_range_error_has_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.tied.LAST_PORT", FIRST_PORT)
    with pytest.raises(RuntimeError, match="end other test runs"):
        next(_reserved_ports(tmp_path))
