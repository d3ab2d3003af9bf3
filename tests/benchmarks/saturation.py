"""How much of a rate limit instances use together while more is asked than there is, and what the ledger costs for it.

`python -m tests.benchmarks.saturation --rpm 300 --window 60 --minutes 3 --processes 3`; `--rtt-ms 20` makes the emulated
Firestore as far away as a real one in the same region."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from random import uniform
from typing import Any

import grpc
import orjson
from grpc import aio

from tests.support.firestore_emulator import firestore_emulator
from tests.support.firestore_proxy import FirestoreProxy
from tests.support.fleet import MODELS, Fleet, Quota, fleet
from tests.support.invariants import worst_window
from tests.support.load import Load, closed_loop

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CountingProxy(FirestoreProxy):
    """Also counts the commits that were refused because somebody else was faster, and stands `rtt_s` away."""

    def __init__(self, upstream: str, rtt_s: float) -> None:
        super().__init__(upstream)
        self.rtt_s = rtt_s
        self.refused = 0

    async def _commit(self, request: bytes, context: Any) -> bytes:
        try:
            return await super()._commit(request, context)
        except aio.AbortError:
            self.refused += 1
            raise

    async def _begin(self, context: Any, failures: list[grpc.StatusCode]) -> None:
        if self.rtt_s:
            await asyncio.sleep(self.rtt_s * uniform(0.7, 1.5))
        await super()._begin(context, failures)

    def counts(self) -> tuple[int, int, int]:
        return self.commits, self.refused, self.reads


def cpu_s(group: int) -> float:
    """CPU that the processes of a group have used so far."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(after_name[2]) == group:
                ticks += int(after_name[11]) + int(after_name[12])
    return ticks / _TICKS_PER_S


def period_s(quota: Quota) -> float:
    """After so long the same request fits again: what is sent at the limit repeats with this period."""
    return quota.grid.span * quota.grid.slot_ms / 1000


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


async def measure(options: argparse.Namespace, host: str) -> list[tuple[str, str]]:
    """One period to warm up; what follows is measured."""
    quota = Quota(requests=round(options.rpm * options.window / 60), concurrency=options.c, window_s=options.window)
    models = MODELS[: options.models]
    async with AsyncExitStack() as stack:
        proxy = CountingProxy(host, options.rtt_ms / 1000)
        await stack.enter_async_context(proxy)
        site = await stack.enter_async_context(
            fleet(
                host,
                quota,
                instances=options.processes,
                latency_ms=options.latency_ms,
                ledger_host=proxy.host,
                env={"QUEUE_TIMEOUT_SECONDS": "110"},
            )
        )
        groups = [instance.process.pid for instance in site.instances]
        async with closed_loop(site.urls, callers=options.callers, models=models, timeout_s=130) as load:
            await asyncio.sleep(period_s(quota))
            before, used_s = proxy.counts(), [cpu_s(group) for group in groups]
            await asyncio.sleep((options.minutes - 1) * period_s(quota))
            counted = [now - then for now, then in zip(proxy.counts(), before, strict=True)]
            used_s = [cpu_s(group) - then for group, then in zip(groups, used_s, strict=True)]
            await asyncio.sleep(1)
        if options.save:
            seen = await site.seen()
            saved = {"started_s": load.started_s, "stopped_s": load.stopped_s, "arrivals_s": seen.arrivals_s}
            options.save.write_bytes(orjson.dumps({**saved, "sent": load.sent}))
        return await report(site, quota, load, models, counted, used_s)


async def report(
    site: Fleet,
    quota: Quota,
    load: Load,
    models: tuple[str, ...],
    counted: list[int],
    used_s: list[float],
) -> list[tuple[str, str]]:
    seen = await site.seen()
    best = quota.grid.best_use()
    periods = int((load.stopped_s - load.started_s) / period_s(quota)) - 1
    since_s = min(seen.arrivals_s[models[0]]) + period_s(quota)
    until_s = since_s + periods * period_s(quota)
    lines = [("requests a window and model", str(quota.requests)), ("best use possible", f"{best:.4f}")]
    total = 0
    for model in models:
        at_s = seen.arrivals_s[model]
        measured = sum(1 for at in at_s if since_s <= at < until_s)
        total += measured
        used = measured / (periods * quota.requests)
        worst = worst_window(at_s, quota.window_s)
        lines.append((model, f"worst window {worst}, used {best * used:.4f} = {used:.4f} of the best"))
    waits = [one.queued_s for one in load.sent if one.queued_s is not None and since_s <= one.end_s < until_s]
    fifo_s = max(0.0, len({one.caller for one in load.sent}) / len(models) * quota.window_s / quota.requests / best)
    lines += [
        ("refused by Gemini", str(seen.refused or "nothing")),
        ("most at once", f"{seen.most_at_once} of {quota.concurrency}"),
        ("errors told to callers", str(sum(1 for one in load.sent if not one.answered))),
        ("somebody else's answers", str(sum(1 for one in load.sent if one.answered and not one.own))),
        ("commits per request", f"{counted[0] / total:.4f} ({counted[0]}, of which {counted[1]} refused, for {total})"),
        ("reads per request", f"{counted[2] / total:.4f} ({counted[2]})"),
        ("commits per second", f"{counted[0] / (until_s - since_s):.2f}"),
        ("wait p50 / p99 / most", " / ".join(f"{quantile(waits, q):.2f} s" for q in (0.5, 0.99, 1))),
        ("a round of the queue at the limit", f"{fifo_s:.2f} s (first come first served: nobody waits longer)"),
        ("CPU of an instance", ", ".join(f"{1000 * s / (total / len(used_s)):.2f} ms a request" for s in used_s)),
        ("CPU share", ", ".join(f"{100 * s / (until_s - since_s):.1f} %" for s in used_s)),
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.saturation", description=__doc__)
    parser.add_argument("--rpm", type=int, default=300, help="of each model")
    parser.add_argument("--models", type=int, default=1, choices=range(1, len(MODELS) + 1))
    parser.add_argument("--window", type=float, default=60.0, help="seconds that stand for a minute")
    parser.add_argument(
        "--minutes", type=int, default=3, help="windows (and a little) of load; the first is not measured"
    )
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--c", type=int, default=15, help="requests at once")
    parser.add_argument("--latency-ms", type=int, default=500)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--save", type=Path, help="where to write every request and arrival, as JSON")
    options = parser.parse_args()
    with firestore_emulator() as host:
        lines = asyncio.run(measure(options, host))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
