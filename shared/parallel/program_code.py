"""Exceptions of a program's own code that the library's loop must not see: SystemExit and KeyboardInterrupt would end it."""

from __future__ import annotations


class ProgramEnded(Exception):
    """A generator of prompts or a progress callback raised `raised`. The caller of the library gets that one."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(repr(raised))
        self.raised = raised
