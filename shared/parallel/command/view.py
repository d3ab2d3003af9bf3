"""What a person sees of a run, on standard error: a table that is redrawn at a terminal, else a line every few seconds."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.stores.port import StoreError

from .local_time import until
from .run import Ending, Run

REDRAW_S, LINE_S = 0.25, 5.0
STATES_S = 2.0
_COLOURS = {"AVAILABLE": "green", "COOLDOWN": "cyan", "TEMPORARILY_EXHAUSTED": "yellow", "FULLY_EXHAUSTED": "red"}
States = Mapping[str, Mapping[str, Any]]


class View:
    """`states` returns the states of the keys; `rate_limit` is the limit per minute of all keys together, None if unlimited."""

    def __init__(
        self,
        run: Run,
        states: Callable[[], Awaitable[States]],
        *,
        model: str,
        rate_limit: int | None,
        priced: bool,
        console: Console | None = None,
    ) -> None:
        self._run, self._read_states, self._model, self._rate_limit, self._priced = (
            run,
            states,
            model,
            rate_limit,
            priced,
        )
        self.console = console or Console(stderr=True)
        self._states: States = {}
        self._notes: list[str] = []

    def note(self, sentence: str) -> None:
        """Shows a sentence below the table, or as a line."""
        self._notes.append(sentence)
        if not self.console.is_terminal:
            self._print(sentence)

    async def show(self) -> None:
        """Until it is cancelled."""
        if self.console.is_terminal:
            with Live(self.draw(), console=self.console, auto_refresh=False) as live:
                try:
                    await self._refreshing(lambda: live.update(self.draw(), refresh=True), REDRAW_S)
                finally:
                    live.update(self.draw(), refresh=True)
        else:
            await asyncio.sleep(LINE_S)
            await self._refreshing(lambda: self._print(self.line()), LINE_S)

    async def _refreshing(self, redraw: Callable[[], None], every_s: float) -> None:
        looked_s = -STATES_S
        while True:
            if elapsed_s() - looked_s >= STATES_S:
                looked_s = elapsed_s()
                # The prompts tell what is wrong with the ledger or the gateway.
                with suppress(StoreError, GatewayError):
                    self._states = await self._read_states()
            redraw()
            await asyncio.sleep(every_s)

    def _print(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        counts, now_s = self._run.counts, elapsed_s()
        total = "?" if counts.total is None else f"{counts.total:,}"
        cost = f", ${self._run.budget.spent:.4f}" if self._priced else ""
        return (
            f"{counts.skipped + counts.done:,} of {total} done, {counts.failed:,} failed, {counts.in_flight} in flight, "
            f"{self._rate(now_s)}, {counts.prompt_tokens + counts.output_tokens:,} tokens{cost}, {_left(counts.eta_s(now_s))}"
        )

    def draw(self) -> RenderableType:
        counts, now_s = self._run.counts, elapsed_s()
        total = counts.total
        bar = ProgressBar(total=total, completed=counts.skipped + counts.done, width=None)
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1)
        head.add_column(justify="right")
        share = "" if not total else f"{100 * (counts.skipped + counts.done) / total:.1f} %"
        head.add_row(bar, share)
        facts = Table.grid(padding=(0, 2))
        waiting = counts.left()
        rows = [
            ("done", f"{counts.skipped + counts.done:,}" + (f" ({counts.skipped:,} before)" if counts.skipped else "")),
            ("failed", f"{counts.failed:,}"),
            ("waiting", "?" if waiting is None else f"{max(0, waiting - counts.in_flight):,}"),
            ("in flight", f"{counts.in_flight:,}"),
            ("requests", self._rate(now_s)),
            ("tokens", f"{counts.prompt_tokens:,} in, {counts.output_tokens:,} out"),
            ("cost", f"${self._run.budget.spent:.4f}" + self._of_budget() if self._priced else "no price is known"),
            ("time left", _left(counts.eta_s(now_s))),
        ]
        for name, value in rows:
            facts.add_row(Text(name, style="dim"), Text(value))
        keys = Table(box=None, padding=(0, 2), header_style="dim")
        for title in ("key", "state", "until"):
            keys.add_column(title)
        for name, state in self._states.items():
            status = str(state["status"])
            keys.add_row(name, Text(status, style=_COLOURS.get(status, "red")), until(state.get("until")))
        notes = [Text(note, style="yellow") for note in self._notes[-3:]]
        return Group(Text(f"gemini-parallel  {self._model}", style="bold"), head, facts, keys, *notes)

    def _rate(self, now_s: float) -> str:
        count = self._run.counts.last_minute(now_s)
        limit = "" if self._rate_limit is None else f" of {self._rate_limit:,}"
        return f"{count:,}{limit} in the last minute"

    def _of_budget(self) -> str:
        dollars = self._run.budget.dollars
        return "" if dollars is None else f" of ${dollars:.2f}"


class Events:
    """The machine-readable form, on standard output: one JSON object a line."""

    def __init__(self, run: Run, out: TextIO = sys.stdout) -> None:
        self._run, self._out = run, out

    def note(self, sentence: str) -> None:
        self._put({"event": "note", "message": sentence})

    async def show(self) -> None:
        while True:
            self._put({"event": "progress", **self._counts()})
            await asyncio.sleep(LINE_S)

    def end(self, ending: Ending) -> None:
        self._put({"event": "end", "exit_code": int(ending.code), "message": ending.message, **self._counts()})

    def _counts(self) -> dict[str, Any]:
        return self._run.counts.as_json(elapsed_s(), self._run.budget.spent)

    def _put(self, event: Mapping[str, Any]) -> None:
        try:
            self._out.write(orjson.dumps(event).decode() + "\n")
            self._out.flush()
        except BrokenPipeError:
            # The reader has left; the results are still wanted. What the end of the program flushes goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class Silent:
    def note(self, sentence: str) -> None:
        return None

    async def show(self) -> None:
        return None


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
