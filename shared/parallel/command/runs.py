"""Puts a run together: the keys, the files, what is shown, and the signals that end it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from shared.batch.backend import Backend, BatchOptions
from shared.batch.prices import Price, price_of, priced
from shared.errors import BadRequest, GatewayError
from shared.gemini.models import TABLE
from shared.stores.port import StoreError

from ..key_manager import AdvancedApiKeyManager
from .budget import Budget
from .exit_codes import ExitCode
from .input import InputError, count_lines, read_lines
from .main import UsageError
from .results_file import ResultsError, ResultsFile
from .run import Ending, Run
from .setup import backend_of, manager_of
from .view import Events, Silent, View


async def run_command(given: argparse.Namespace) -> int:
    """Raises UsageError."""
    model, price = _model_of(given)
    schema = _schema_of(given.schema)
    manager = manager_of(given)
    try:
        async with backend_of(manager) as backend:
            if given.dry_run:
                from .dry_run import dry_run

                return await dry_run(given, manager, backend, model, price)
            return await _run(given, manager, backend, price, schema)
    except InputError as error:
        raise UsageError(str(error)) from None
    except ResultsError as error:
        print(f"gemini-parallel: {error}", file=sys.stderr)
        return int(ExitCode.UNWRITABLE)
    except (StoreError, GatewayError) as error:
        print(f"gemini-parallel: {error}", file=sys.stderr)
        return int(ExitCode.UNREACHABLE)


async def _run(
    given: argparse.Namespace,
    manager: AdvancedApiKeyManager,
    backend: Backend,
    price: Price | None,
    schema: dict[str, Any] | None,
) -> int:
    results = await asyncio.to_thread(ResultsFile.open, given.output, retry_failed=given.retry_failed)
    try:
        run = Run(
            read_lines(given.prompts, given.format),
            results,
            backend,
            BatchOptions(given.model, given.max_workers, given.api_call_interval),
            Budget(given.budget, price),
            schema=schema,
            limit=given.limit,
            read_at_once=1 if given.prompts == "-" else 64,
        )
        view = _view_of(given, run, manager, backend, price)
        run.warn = view.note
        if results.torn_bytes:
            view.note(f"{given.output} ended with an unfinished line of {results.torn_bytes} bytes, which was removed.")
        ending = await _finished(given, run, view)
    finally:
        await asyncio.to_thread(results.close)
    _tell(given, run, view, ending)
    return int(ending.code)


async def _finished(given: argparse.Namespace, run: Run, view: View | Events | Silent) -> Ending:
    """The ending of the run, with its progress shown until then."""
    going = asyncio.create_task(run.go())
    shown = asyncio.create_task(view.show())
    counting = asyncio.create_task(_count(given, run))
    try:
        with _signals(run, going, view):
            return await going
    except asyncio.CancelledError:
        if asyncio.current_task() is not None and not going.cancelled():
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
        return Ending(ExitCode.INTERRUPTED, "Stopped at once: what was in flight is sent again by the next run.")
    finally:
        for task in (shown, counting):
            task.cancel()
        await asyncio.gather(shown, counting, return_exceptions=True)


@contextmanager
def _signals(run: Run, going: asyncio.Task[Ending], view: View | Events | Silent) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) finishes what is in flight, the second stops at once."""
    loop, seen = asyncio.get_running_loop(), 0

    def interrupt() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            count = run.counts.in_flight
            run.stop(
                ExitCode.INTERRUPTED, "Interrupted: all that was in flight is finished. The same command continues."
            )
            view.note(
                f"Finishing {count} {'prompt' if count == 1 else 'prompts'} in flight; Ctrl-C again stops at once."
            )
        else:
            going.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _count(given: argparse.Namespace, run: Run) -> None:
    """For the progress only: an input that cannot be counted is still read."""
    if given.prompts != "-":
        with suppress(OSError):
            run.counts.total = await asyncio.to_thread(count_lines, given.prompts, given.format)


def _view_of(
    given: argparse.Namespace, run: Run, manager: AdvancedApiKeyManager, backend: Backend, price: Price | None
) -> View | Events | Silent:
    if given.json:
        return Events(run)
    if given.quiet:
        return Silent()
    return View(
        run,
        backend.states,
        model=TABLE.resolve(given.model).canonical,
        rate_limit=rate_limit(manager, given.model),
        priced=price is not None,
    )


def rate_limit(manager: AdvancedApiKeyManager, model: str) -> int | None:
    """Requests per minute of all keys together; keys of one project share its limit."""
    canonical = TABLE.resolve(model).canonical
    accounts = {account.ledger_id: account for account in manager.keys.accounts(manager.settings)}
    limits = [account.limits_for(canonical).requests for account in accounts.values()]
    return None if not limits or None in limits else sum(limit for limit in limits if limit is not None)


def _tell(given: argparse.Namespace, run: Run, view: View | Events | Silent, ending: Ending) -> None:
    if isinstance(view, Events):
        view.end(ending)
    elif not given.quiet or ending.code not in (ExitCode.OK, ExitCode.FAILED):
        counts, budget = run.counts, run.budget
        cost = f" for ${budget.spent:.4f}" if isinstance(view, View) and budget.spent else ""
        done = f"{counts.answered:,} answered, {counts.failed:,} failed, {counts.skipped:,} done before{cost}."
        over = "" if budget.dollars is None or budget.spent <= budget.dollars else _overshoot(budget)
        print(f"{ending.message} {done}{over}", file=sys.stderr)


def _overshoot(budget: Budget) -> str:
    assert budget.dollars is not None
    over = budget.spent - budget.dollars
    return f" The budget was passed by ${over:.4f}: prompts that were in flight cost more than all before."


def _model_of(given: argparse.Namespace) -> tuple[str, Price | None]:
    try:
        model = TABLE.resolve(given.model).canonical
    except BadRequest as error:
        raise UsageError(error.message) from None
    price = price_of(model, datetime.now().date())
    if given.budget is not None and price is None:
        raise UsageError(
            f"--budget needs the price of {model}, which is not known here; leave --budget out, or use one of: "
            f"{', '.join(priced())}."
        )
    return model, price


def _schema_of(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        schema = orjson.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--schema {path} cannot be read ({error.strerror}).") from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"--schema {path} is not JSON: {error.msg} at character {error.pos}.") from None
    from shared.structured.json_schema import check_schema

    try:
        check_schema(schema if isinstance(schema, dict) else {"": schema}, "--schema")
    except BadRequest as error:
        raise UsageError(error.message) from None
    if not isinstance(schema, dict):
        raise UsageError(f"--schema {path} must be a JSON object.")
    return schema
