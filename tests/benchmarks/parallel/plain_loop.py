"""The loop that people write: a thread pool, google-genai, and a sleep after each 429, which doubles from 1 to 60 s."""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
from google import genai
from google.genai import errors, types

MODEL = "gemini-3.5-flash-lite"
MAX_SLEEP_S = 60.0


def main(arguments: list[str]) -> None:
    count, workers = int(arguments[0]), int(arguments[1])
    options = types.HttpOptions(base_url=os.environ["GEMINI_BASE_URL"])
    client = genai.Client(api_key=os.environ["GEMINI_API_KEY"], http_options=options)
    rejected = 0

    def ask(number: int) -> str | None:
        nonlocal rejected
        sleep_s = 1.0
        while True:
            try:
                return client.models.generate_content(model=MODEL, contents=f"number {number}").text
            except errors.ClientError as error:
                if error.code != 429:
                    raise
                rejected += 1
                time.sleep(sleep_s)
                sleep_s = min(2 * sleep_s, MAX_SLEEP_S)

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(ask, range(count)))
    report = {
        "seconds": time.monotonic() - began_s,
        "cpu_ms": 1000 * (time.process_time() - began_cpu_s) / count,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "failed": sum(answer is None for answer in answers),
        "rejected": rejected,
    }
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
