"""What a command reads at a terminal and from a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator

import pytest

from shared.ops import terminal
from shared.ops.terminal import InputError, read_passphrase, read_secret, read_text
from shared.secret import Secret

Typing = Callable[..., None]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typing]:
    """Sets what is typed at the prompts, one after the other."""

    def set_typed(*lines: str) -> None:
        left = list(lines)

        def typed(prompt: str, stream: object) -> str:
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr(sys, "stdin", Terminal("not read"))
        monkeypatch.setattr(terminal.getpass, "getpass", typed)

    yield set_typed


def test_a_secret_is_typed_without_echo(typing: Typing) -> None:
    typing(" AQ.typed ")
    assert read_secret("Key: ", 100) == Secret("AQ.typed")
    with pytest.raises(InputError, match="Nothing was read"):
        read_secret("Key: ", 100)


def test_a_new_passphrase_is_typed_twice(typing: Typing) -> None:
    typing("one phrase", "one phrase")
    assert read_passphrase(None, twice=True) == Secret("one phrase")
    typing("one phrase", "another")
    with pytest.raises(InputError, match="differ"):
        read_passphrase(None, twice=True)
    typing("one phrase")
    assert read_passphrase(None, twice=False) == Secret("one phrase")


def test_input_that_is_no_text_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    with pytest.raises(InputError, match="not UTF-8"):
        read_text(10)
