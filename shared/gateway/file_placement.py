"""The project that serves a request with stored files, and their copies in it.

    projects that may serve the request                      chosen
    --------------------------------------------------------------------------------------------------------------------
    one has copies of the files and takes requests           this one: nothing is uploaded
    several have the same bytes of them, or none has any     the one with the fewest requests under way and waiting here
    the chosen one stops: day, key, permission, no model     another one, to which the files are uploaded; MAX_PROJECTS in all
    the others stop too                                      the error of the last one

A project whose queue cannot serve the request in time is left for one where no request waits: a file would otherwise bind all its
requests to one project while others are idle. A caller's own key has one project.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from shared.accounts.account import Account
from shared.admission.rejection import exceeded, stop_of
from shared.errors import BadRequest, GatewayError, NoServerKey, RateLimited
from shared.gateway.failures import caller_error
from shared.gemini import references
from shared.gemini.errors import UpstreamFailure
from shared.generation import Cost, FileSource, Generation

if TYPE_CHECKING:
    from shared.gateway.file_copies import Copy
    from shared.gateway.placement import Places

MAX_PROJECTS = 3
"""Projects that one request's files are uploaded to."""
FULL_RETRY_S = 60.0
"""After a rejected upload for which Google named no delay: its storage for files of a project may be full."""
Having = Callable[[list[Account]], list[Account]]


class FilePlacement:
    """Of one request: `look_up`, then `place`, which uploads what is missing; `leave` or `renew` after a failure, and `place`
    again."""

    __slots__ = ("_generation", "_left", "_live", "_places", "_renewed", "_sources", "project", "uris")

    def __init__(self, places: Places, generation: Generation, sources: Sequence[FileSource]) -> None:
        self._places, self._generation, self._sources = places, generation, sources
        self._live: dict[str, dict[str, Copy]] = {}
        """By the file's key and the project's ledger."""
        self._left: set[str] = set()
        self._renewed = False
        self.project: str | None = None
        """The ledger of the chosen project."""
        self.uris: Mapping[str, str] = {}
        """By the file's key, in the chosen project."""

    async def look_up(self, timeout_s: float) -> None:
        """Raises LedgerUnavailable."""
        current, found = self._places.current, await self._places.copies.find(self._sources, timeout_s)
        self._live = {key: {current(project): copy for project, copy in of.items()} for key, of in found.items()}

    def holding(self, candidates: list[Account]) -> list[Account]:
        """The accounts of the chosen project; until one is chosen, and when its accounts are out, those of all projects that may
        be chosen. Raises BadRequest if no account can have files."""
        able = [account for account in candidates if account.kind == "api_key"]
        if not able and candidates:
            raise BadRequest(
                f"{self._sources[0].name} is too large to be sent inside the request, and only accounts of the Gemini API take "
                "larger files. Name a smaller file, or send a Gemini API key of your own."
            )
        if self.project is not None:
            held = self._places.accounts_of(self.project, able)
            if held:
                return held
            self._left.add(self.project)
            self.project = None
        return [account for account in able if self._ledger_of(account) not in self._left]

    async def place(self, accounts: list[Account], model: str, cost: Cost) -> None:
        """Chooses a project of `accounts`, if none is chosen, and uploads the files that it lacks. Raises GatewayError."""
        while self.project is None:
            by_project: dict[str, list[Account]] = {}
            for account in accounts:
                if not self._places.pool.is_disabled(account) and self._ledger_of(account) not in self._left:
                    by_project.setdefault(self._ledger_of(account), []).append(account)
            if not by_project or len(self._left) >= MAX_PROJECTS:
                raise NoServerKey("No account of this server can take the request's files now. Retry later.")
            project = min(by_project, key=lambda one: self._standing(one, by_project[one][0], model, cost))
            account = by_project[project][0]
            try:
                self.uris = await self._uploaded(account, project)
                self.project = project
            except UpstreamFailure as failure:
                self._learn(failure, account)
                if failure.remedy not in ("account_out", "account_paused") or len(by_project[project]) == 1:
                    self._left.add(project)
                elsewhere = failure.remedy in ("next_account", "account_out", "account_paused")
                if not elsewhere or len(self._left) >= MAX_PROJECTS or not self._others(accounts):
                    raise self._error(failure, model) from failure

    def leave(self, candidates: Sequence[Account], having: Having, *, full: bool = False) -> bool:
        """Gives up the chosen project, which does not serve the request. False if that helps nothing: no other project of
        `candidates` has the model (`having`), or the request has used MAX_PROJECTS. `full`: the project's queue is too long, so
        that only a project where no request waits here is better."""
        if self.project is None or len(self._left) + 1 >= MAX_PROJECTS:
            return False
        left = {*self._left, self.project}
        others = [one for one in candidates if one.kind == "api_key" and self._ledger_of(one) not in left]
        if full:
            others = [
                one for one in others if (client := self._places.client(one)) is None or not client.wait_list.count
            ]
        if not having(others):
            return False
        self._left, self.project = left, None
        return True

    async def renew(self, failure: UpstreamFailure) -> bool:
        """Whether Gemini answered that it does not have the files, which it had by the record: `place` uploads them again, once.
        Raises LedgerUnavailable."""
        if self._renewed or self.project is None:
            return False
        if failure.status not in (403, 404) or not references.says_missing(failure.message):
            return False
        self._renewed = True
        project = self.project
        copies = {key: of[project] for key, of in self._live.items() if project in of}
        named = {key: copy for key, copy in copies.items() if copy.name.removeprefix("files/") in failure.message}
        for key, copy in (named or copies).items():
            await self._places.copies.drop(key, copy.name)
            del self._live[key][project]
        self.project = None
        return True

    # -- choosing --------------------------------------------------------------------------------------------------------

    def _standing(self, project: str, account: Account, model: str, cost: Cost) -> tuple[bool, int, int, bytes]:
        """A project with a smaller one is preferred: it takes requests, fewer bytes have to be uploaded, it is less busy. The
        last item decides between equal ones."""
        client = self._places.client(account)
        limits = account.limits_for(model) if client is None else client.permits_of(model).limits
        stops, load = exceeded(limits, model, cost) is not None, 0
        if client is not None:
            stops = stops or (client.clock.known and stop_of(client, model, cost) is not None)
            load = client.wait_list.count + len(client.holdings.open)
        missing_bytes = sum(one.size_bytes for one in self._sources if project not in self._live[one.key])
        return stops, missing_bytes, load, _mixed(self._sources[0].key, project)

    async def _uploaded(self, account: Account, project: str) -> dict[str, str]:
        """The URIs of all files in the project. Raises GatewayError, UpstreamFailure."""
        copies, generation = self._places.copies, self._generation
        missing = [
            one for one in self._sources if (copy := self._live[one.key].get(project)) is None or not copy.active
        ]
        tasks = [
            asyncio.create_task(copies.ensure(one, account, project, generation.caller, generation.deadline_s))
            for one in missing
        ]
        try:
            for source, copy in zip(missing, await asyncio.gather(*tasks), strict=True):
                self._live[source.key][project] = copy
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return {one.key: self._live[one.key][project].uri for one in self._sources}

    def _others(self, accounts: Sequence[Account]) -> bool:
        pool = self._places.pool
        return any(self._ledger_of(one) not in self._left and not pool.is_disabled(one) for one in accounts)

    def _learn(self, failure: UpstreamFailure, account: Account) -> None:
        if failure.remedy == "account_out":
            self._places.pool.disable(account, failure.kind, failure.message, failure.status)
        elif failure.remedy == "account_paused":
            self._places.pool.pause(account, failure.kind, failure.message)

    def _error(self, failure: UpstreamFailure, model: str) -> GatewayError:
        if failure.kind in ("quota", "pressure"):
            return RateLimited(
                f"Gemini takes no file of this request now: {failure.message}",
                retry_after_s=failure.retry_delay_s or FULL_RETRY_S,
            )
        own, retry_s = self._generation.caller.caller_key is not None, self._places.pool.server_retry_s()
        return caller_error(failure, model, 0.0, 0.0, 60.0, caller_key=own, key_retry_s=retry_s)

    def _ledger_of(self, account: Account) -> str:
        return self._places.current(account.ledger_id)


def _mixed(file_key: str, project: str) -> bytes:
    """A hash, so that all processes prefer the same project for a file, and another one for another file."""
    return hashlib.blake2b(f"{file_key} {project}".encode(), digest_size=8).digest()
