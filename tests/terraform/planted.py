"""An error that somebody could make in the deployment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Planted:
    """`old` in `file`, below terraform/, becomes `new`; an empty `old` is the file's end. `told` is a pattern."""

    name: str
    file: str
    old: str
    new: str
    told: str

    def into(self, checkout: Path) -> None:
        file = checkout / "terraform" / self.file
        text = file.read_text()
        assert self.old in text, f"{self.file} no longer has {self.old!r}"
        file.write_text(text.replace(self.old, self.new) if self.old else f"{text}\n{self.new}\n")
