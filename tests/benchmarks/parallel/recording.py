"""`make recording`: records a real run of gemini-parallel against the offline Gemini as an animated SVG.

The frames are what the command draws at a terminal. Each is shown for FRAME_S; the last one stays longer.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from gemini_parallel.command.budget import Budget
from gemini_parallel.command.input import count_lines, read_lines
from gemini_parallel.command.results_file import ResultsFile
from gemini_parallel.command.run import Run
from gemini_parallel.command.view import View
from gemini_parallel.key_manager import AdvancedApiKeyManager
from rich.console import Console

from shared.batch.backend import BatchOptions
from shared.batch.prices import price_of
from shared.emulator import EmulatorConfig, running
from tests.support.processes import ROOT

TARGET = ROOT / "shared" / "parallel" / "recording.svg"
MODEL = "gemini-3.5-flash-lite"
PROMPTS, RPM = 400, 600
FRAME_S, MAX_FRAMES, LAST_S = 1.0, 24, 4.0
COLUMNS = 78
_FONT_FACE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')


async def frames(folder: Path) -> list[str]:
    """The frames of a run, each an SVG."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f'{{"id": "p{n}", "prompt": "question {n}"}}\n' for n in range(PROMPTS)))
    async with running(EmulatorConfig(latency_s=0.4)) as gemini:
        os.environ.update(
            GEMINI_BASE_URL=gemini.url,
            GEMINI_API_KEY_1="AQ.first-key-of-the-recording",
            GEMINI_API_KEY_2="AQ.second-key-of-the-recording",
            GEMINI_RPM=str(RPM),
            GEMINI_TPM="unlimited",
            GEMINI_RPD="unlimited",
            GEMINI_TIER="tier3",
        )
        names = ["GEMINI_API_KEY_1", "GEMINI_API_KEY_2"]
        manager = AdvancedApiKeyManager(names, key_cooldown_seconds=0, ledger=f"sqlite:///{folder}/ledger.db")
        backend, results = manager.new_backend(), ResultsFile.open(folder / "results.jsonl")
        try:
            price = price_of(MODEL, datetime.now().date())
            run = Run(read_lines(str(prompts)), results, backend, BatchOptions(MODEL, 32), Budget(None, price))
            run.counts.total = count_lines(str(prompts))
            view = View(run, backend.states, model=MODEL, rate_limit=2 * RPM, priced=True)
            return await drawn(run, view)
        finally:
            await backend.aclose()
            results.close()


async def drawn(run: Run, view: View) -> list[str]:
    going, found = asyncio.create_task(run.go()), list[str]()
    while len(found) < MAX_FRAMES:
        view._states = await view._read_states()
        found.append(picture(view, len(found)))
        done, _ = await asyncio.wait([going], timeout=FRAME_S)
        if done:
            break
    ending = await going
    view.note(ending.message)
    found.append(picture(view, len(found)))
    return found


def picture(view: View, number: int) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(view.draw())
    svg = console.export_svg(title="gemini-parallel run prompts.jsonl -o results.jsonl", unique_id=f"f{number}")
    return _FONT_FACE.sub("", svg)


def animated(found: list[str]) -> str:
    """All frames in one picture, shown one after the other."""
    sizes = [_SIZE.search(one) for one in found]
    width = max(float(size[1]) for size in sizes if size)
    height = max(float(size[2]) for size in sizes if size)
    total_s = FRAME_S * (len(found) - 1) + LAST_S
    rules, bodies = [], []
    for number, svg in enumerate(found):
        begin = 100 * FRAME_S * number / total_s
        end = 100 if number == len(found) - 1 else 100 * FRAME_S * (number + 1) / total_s
        rules.append(
            f"@keyframes k{number}{{0%,{begin:.2f}%{{visibility:hidden}}{begin:.2f}%,{end:.2f}%{{visibility:visible}}"
            f"{end:.2f}%,100%{{visibility:{'visible' if end == 100 else 'hidden'}}}}}"
            f".k{number}{{visibility:hidden;animation:k{number} {total_s:g}s step-end infinite}}"
        )
        bodies.append(f'<g class="k{number}">{svg}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
        f"<title>A run of gemini-parallel</title><style>{''.join(rules)}</style>{''.join(bodies)}</svg>\n"
    )


def main() -> None:
    with TemporaryDirectory() as folder:
        found = asyncio.run(frames(Path(folder)))
    TARGET.write_text(animated(found))
    print(f"{TARGET.relative_to(ROOT)}: {len(found)} frames, {TARGET.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
