"""One run of the library, as a program: `python -m tests.benchmarks.parallel.ours PROMPTS WORKERS [FROM TO]`
(tokens of a prompt). Prints a JSON object with its time, CPU and memory."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor

WORD = "word "
CHARS_PER_TOKEN = 4
"""Of the offline Gemini's count."""


def prompts(count: int, tokens: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    for number in range(count):
        text = f"number {number}"
        if tokens is not None:
            text += " " + WORD * (chance.randint(*tokens) * CHARS_PER_TOKEN // len(WORD))
        yield {"prompt": text, "metadata": number}


def main(arguments: list[str]) -> None:
    count, workers = int(arguments[0]), int(arguments[1])
    tokens = (int(arguments[2]), int(arguments[3])) if len(arguments) > 2 else None
    manager = AdvancedApiKeyManager("GEMINI_API_KEY", key_cooldown_seconds=0)
    processor = GeminiParallelProcessor(manager, api_call_interval=0, max_workers=workers)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    results = processor.process_prompts(prompts(count, tokens))
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    manager.close()
    errors = [error for _, _, error in results if error is not None]
    report = {
        "seconds": took_s,
        "cpu_ms": 1000 * cpu_s / count,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "failed": len(errors),
        "error": errors[0] if errors else None,
    }
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
