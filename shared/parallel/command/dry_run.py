"""--dry-run: what a run would take, without generating anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass

import orjson

from shared.batch.backend import Backend, Counting
from shared.batch.item import Item
from shared.batch.prices import MAX_OUTPUT_TOKENS, Price
from shared.batch.runner import run
from shared.errors import BadRequest
from shared.gemini.native_body import turn
from shared.gemini.tokens import estimate_input_tokens

from ..key_manager import AdvancedApiKeyManager
from .exit_codes import ExitCode
from .input import Line, read_lines
from .results_file import known_results


@dataclass(slots=True)
class Plan:
    """What would be sent."""

    prompts: int = 0
    wrong: int = 0
    """Prompts that cannot be read; they would get an error and cost nothing."""
    done: int = 0
    """Prompts that have a result."""
    input_tokens: int = 0
    counted_by_gemini: int = 0
    """Prompts whose tokens Gemini counted; those of the others are estimated, rather too high."""
    max_output_tokens: int = 0
    input_cost: float | None = None
    max_cost: float | None = None
    minutes: float | None = None
    """At the keys' limits per minute; a day's limit may make it longer."""


async def dry_run(
    given: argparse.Namespace, manager: AdvancedApiKeyManager, backend: Backend, model: str, price: Price | None
) -> int:
    """Raises InputError."""
    plan = Plan()
    known = {} if given.output is None else known_results(given.output)

    async def items() -> AsyncIterator[Item]:
        for line in _to_send(read_lines(given.prompts, given.format), set(known), plan, given.limit):
            plan.prompts += line.task.item is not None
            plan.wrong += line.task.item is None
            if line.task.item is not None:
                yield line.task.item

    async def count(item: Item) -> tuple[int, bool, int] | None:
        most = int((item.config or {}).get("maxOutputTokens") or MAX_OUTPUT_TOKENS)
        if not isinstance(backend, Counting):
            text = "".join(part for part in item.parts if isinstance(part, str))
            return estimate_input_tokens({"contents": [turn("user", text)]}), False, most
        try:
            return *await backend.count(item, model), most
        except BadRequest:
            return None

    async def add(counted: tuple[int, bool, int] | None) -> None:
        if counted is None:
            plan.prompts, plan.wrong = plan.prompts - 1, plan.wrong + 1
        else:
            plan.input_tokens += counted[0]
            plan.counted_by_gemini += counted[1]
            plan.max_output_tokens += counted[2]

    await run(items(), count, add, workers=given.max_workers)
    if price is not None:
        plan.input_cost = price.of_tokens(plan.input_tokens, 0)
        plan.max_cost = price.of_tokens(plan.input_tokens, plan.max_output_tokens)
    plan.minutes = _minutes(manager, model, plan)
    if given.json:
        sys.stdout.buffer.write(orjson.dumps(asdict(plan)) + b"\n")
    else:
        print("\n".join(_sentences(plan, model, price)), file=sys.stdout)
    return int(ExitCode.OK)


def _to_send(lines: Iterator[Line], known: set[str], plan: Plan, limit: int | None) -> Iterator[Line]:
    for line in lines:
        if line.key in known:
            plan.done += 1
        elif limit is None or plan.prompts + plan.wrong < limit:
            yield line


def _minutes(manager: AdvancedApiKeyManager, model: str, plan: Plan) -> float | None:
    """Full windows that the limits need, of requests or tokens, whichever is more."""
    accounts = {account.ledger_id: account for account in manager.keys.accounts(manager.settings)}
    limits = [account.limits_for(model) for account in accounts.values()]
    needed = 0.0
    for amount, of_all in (
        (plan.prompts, [limit.requests for limit in limits]),
        (plan.input_tokens, [limit.input_tokens for limit in limits]),
    ):
        known = [limit for limit in of_all if limit is not None]
        if known and len(known) == len(of_all) and sum(known):
            needed = max(needed, amount / sum(known))
    return needed if limits else None


def _sentences(plan: Plan, model: str, price: Price | None) -> list[str]:
    said = [
        f"{plan.prompts:,} prompts would be sent to {model}; {plan.done:,} have a result, {plan.wrong:,} cannot be read.",
        f"Input: {plan.input_tokens:,} tokens, of {plan.counted_by_gemini:,} prompts as Gemini counts them, of the others "
        "estimated (rather too high).",
        f"Output: at most {plan.max_output_tokens:,} tokens.",
    ]
    if price is None or plan.input_cost is None or plan.max_cost is None:
        said.append("Cost: no source says the price of this model.")
    else:
        said.append(
            f"Cost: ${plan.input_cost:.4f} for the input, and up to ${plan.max_cost:.4f} if every answer is as long as it may be "
            f"(${price.input:g} and ${price.output:g} for a million tokens; {price.source})."
        )
    if plan.minutes is not None:
        said.append(f"Time: at least {plan.minutes:.1f} minutes at the limits of the keys.")
    return said
