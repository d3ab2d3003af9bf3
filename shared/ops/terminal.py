"""What a command reads: secrets from a prompt without echo, else from standard input; never from its arguments."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import NoReturn

from shared.secret import Secret


class InputError(ValueError):
    """What was read cannot be used. The message is one sentence without what was read."""


class QuietParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors do not repeat the arguments, because one of them may be a secret by mistake."""

    def error(self, message: str) -> NoReturn:
        parts = message.split(": ")
        # "argument --kind: invalid choice: 'x' (choose from ...)" and "unrecognized arguments: x".
        said = ": ".join(parts[:2] if message.startswith("argument ") else parts[:1])
        self.print_usage(sys.stderr)
        self.exit(
            2,
            f"{self.prog}: {said}; see --help. A secret is read from a prompt or from standard input, not from an argument.\n",
        )


def read_secret(prompt: str, max_chars: int) -> Secret:
    """One secret: typed at a terminal, else the whole of standard input. Raises InputError."""
    text = (_typed(prompt) if sys.stdin.isatty() else read_text(max_chars)).strip()
    if not text:
        raise InputError("Nothing was read; type the secret at the prompt, or send it to standard input.")
    return Secret(text)


def read_text(max_chars: int) -> str:
    """The whole of standard input. Raises InputError."""
    try:
        text = sys.stdin.read(max_chars + 1)
    except UnicodeDecodeError:
        raise InputError("Standard input is not UTF-8 text.") from None
    if len(text) > max_chars:
        raise InputError(f"Standard input has more than {max_chars:,} characters.")
    return text


def read_passphrase(file: str | None, *, twice: bool) -> Secret:
    """From `file`, else typed at a terminal (`twice` to notice a mistake), else the first line of standard input. Raises
    InputError."""
    if file is not None:
        lines = read_file(file, 10_000).decode("utf-8", "replace").splitlines()
        text = lines[0] if lines else ""
    elif not sys.stdin.isatty():
        text = sys.stdin.readline(10_000).rstrip("\r\n")
    else:
        text = _typed("Passphrase: ")
        if twice and _typed("The same again: ") != text:
            raise InputError("The two passphrases differ; repeat the command.")
    if not text:
        raise InputError("The passphrase is empty; type it, or name a file with --passphrase-file.")
    return Secret(text)


def read_file(path: str, max_bytes: int) -> bytes:
    """At most `max_bytes + 1` bytes of the file, or of standard input for `-`. Raises InputError."""
    if path == "-":
        return sys.stdin.buffer.read(max_bytes + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"The file cannot be read: {error.strerror or type(error).__name__}.") from None


def write_private_file(path: str, content: bytes) -> None:
    """Creates a file that only its owner can read. An existing file is not replaced. Raises InputError."""
    target = Path(path)
    try:
        target.touch(mode=0o600, exist_ok=False)
        target.write_bytes(content)
    except FileExistsError:
        raise InputError("The output file exists already; choose another name.") from None
    except OSError as error:
        raise InputError(f"The output file cannot be written: {error.strerror or type(error).__name__}.") from None


def _typed(prompt: str) -> str:
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return ""
