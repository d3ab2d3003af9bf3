"""Admission: one call that waits for a permit and a slot of any candidate account, whichever serves the queue's head first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.accounts.account import Account
from shared.admission.answer_times import AnswerTimes
from shared.admission.call_log import LedgerCall, LedgerCallLog
from shared.admission.clients import Clients
from shared.admission.config import AdmissionConfig, ProcessConfig
from shared.admission.connections import Connections
from shared.admission.permit import Permit
from shared.admission.project import ProjectClient
from shared.admission.queue import AccountsChanged, FairQueue, Waiter
from shared.admission.rejection import exceeded, rejection_for, timeout_error, too_short, unconnected
from shared.admission.returns import MAX_AHEAD_WINDOWS, Returns
from shared.admission.server_clock import ServerClock
from shared.admission.wait_list import SCAN, at_least
from shared.clock import elapsed_s
from shared.errors import CostExceedsLimit, Unavailable
from shared.generation import Caller, Cost
from shared.stores.port import Liveness, Store

OFFER_S = 0.25
"""A request that one project could not serve for this long is also offered to the next."""


class Admission:
    """One per process and event loop."""

    def __init__(
        self, store: Store, process: ProcessConfig, config: AdmissionConfig, liveness: Liveness | None = None
    ) -> None:
        self.store, self.process_config, self.config, self.liveness = store, process, config, liveness
        self.clock = ServerClock()
        self.queue = FairQueue(weights=config.weights or {})
        self.returns = Returns(MAX_AHEAD_WINDOWS * process.grid.window_ms / 1000)
        self.times = AnswerTimes()
        self.durations = AnswerTimes()
        """How long exchanges took from the dispatch to the last byte, unary and streamed ones alike."""
        self.connections: Connections[ProjectClient] = Connections(config.connections, config.caller_key_connections)
        self.clients = Clients(self._client)
        self._call_log = LedgerCallLog()
        self._offers: deque[tuple[float, Waiter, asyncio.Future[Permit]]] = deque()
        """Waiters to be offered to the next project, with the time (elapsed) and the future of the wait that it is for."""
        self._offering: asyncio.TimerHandle | None = None
        self._turn = 0
        if liveness is not None:
            liveness.claim(process.instance)

    @property
    def projects(self) -> Mapping[str, ProjectClient]:
        """The clients of all projects that requests came for, by ledger."""
        return self.clients.by_ledger

    @property
    def writes(self) -> int:
        """Commits sent to ledgers so far, including rejected ones."""
        return self._call_log.writes

    def ledger_calls(self, since_s: float) -> list[LedgerCall]:
        """Calls to ledgers that ended at `since_s` (elapsed time) or later: at most the last 64 of each ledger."""
        return self._call_log.since(since_s)

    def reconfigure(self, weights: Mapping[str, float], connections: int, caller_key_connections: int | None) -> None:
        """The callers' weights and the numbers of connections from now on."""
        self.queue.weights = weights
        self.connections.resize(connections, caller_key_connections)
        self._hand_out()

    def accounts_changed(self, usable: Iterable[Account]) -> None:
        """Requests that wait for the server's accounts choose anew. `usable` are those that may serve now. What is held of any
        other project is returned at once, because its bookings count in the ledger until a window after their end."""
        for waiter in list(self.queue):
            if not waiter.accounts[0].caller_key:
                self._refuse(waiter, AccountsChanged(waiter))
        serving = {self.clients.known(account) for account in usable}
        for project in list(self.projects.values()):
            if project not in serving and not project.account.caller_key:
                project.poke()

    # -- acquiring ---------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        candidates: Sequence[Account],
        model: str,
        cost: Cost,
        deadline_s: float,
        caller: Caller,
        *,
        batch: bool = False,
        again: Permit | AccountsChanged | None = None,
        patient_until_s: float | None = None,
        streamed: bool = False,
    ) -> Permit:
        """Wait for a permit of any candidate, at most until `deadline_s` and for QUEUE_TIMEOUT_SECONDS, which
        `patient_until_s` replaces if it is given. `again`: a lapsed permit, or the error by which a wait ended; its place in the
        queue is kept.

        Raises CostExceedsLimit, NoQuota, CallerNoQuota, DailyQuotaExhausted, QueueTimeout, LedgerUnavailable,
        UpstreamTimeout, AccountsChanged."""
        now_s = elapsed_s()
        least_s = self.times.fastest_tenth_s(model, now_s, streamed=streamed)
        if deadline_s - now_s < least_s:
            raise too_short(model, deadline_s - now_s, least_s)
        projects: list[ProjectClient] = []
        sentence: str | None = None
        for project in self.clients.ranked(candidates, self.process_config.instance):
            permits = project.permits_of(model)
            too_large = exceeded(permits.limits, model, cost)
            if too_large is None:
                permits.record_arrival(cost, now_s)
                if not batch:
                    project.wait_list.interactive_s = now_s
                project.expect(deadline_s, now_s)
                projects.append(project)
            sentence = sentence or too_large
        if not projects:
            raise CostExceedsLimit(sentence or "", details={"model": model})
        servable = candidates
        if sentence:
            able = set(projects)
            servable = [account for account in candidates if self.clients.known(account) in able]
        waiter = again.waiter if again is not None else None
        if waiter is None:
            longest_s = now_s + self.config.queue_timeout_s if patient_until_s is None else patient_until_s
            until_s = min(deadline_s - least_s, longest_s)
            future = asyncio.get_running_loop().create_future()
            waiter = Waiter(model, cost, caller.id, batch, now_s, until_s, projects, servable, future)
            waiter.ends_s, waiter.streamed = deadline_s, streamed
            places = ((project.account.ledger_id, project.names.section(model)) for project in projects)
            returned = self.returns.back(places, caller.id, now_s, batch=batch)
            if returned is not None:
                waiter.tag, waiter.sequence = returned.tag, returned.sequence
        # Of a caller's own key, the project may have been forgotten meanwhile; the server's accounts may have changed.
        waiter.candidates, waiter.accounts = projects, servable
        waiter.offered = min(waiter.offered, len(projects))
        if not any(project.wait_list.count for project in projects):
            for at, project in enumerate(projects):
                permit = self._try(project, waiter, now_s)
                if permit is not None:
                    waiter.offered = max(waiter.offered, at + 1)
                    project.poke()
                    return permit
        return await self._wait(waiter)

    def _client(self, account: Account, moved: Callable[[ProjectClient, str, str], None]) -> ProjectClient:
        config, log = self.process_config, self._call_log
        return ProjectClient(
            account, self.store, self.clock, config, log, self.returns, self._changed, moved, self.liveness
        )

    def _try(self, project: ProjectClient, waiter: Waiter, now_s: float) -> Permit | None:
        guest = project.account.ephemeral
        if not self.connections.has_room(guest):
            return None
        draw = project.draw(waiter.model, waiter.cost, waiter.ends_s)
        if draw is None:
            return None
        self.connections.take(guest)
        accounts = waiter.accounts
        if len(accounts) > 1:
            accounts = self.clients.accounts_of(project, accounts)
        self._turn += 1
        account = accounts[self._turn % len(accounts)]
        return Permit(self, project, account, waiter, draw, now_s - waiter.arrived_s)

    async def _wait(self, waiter: Waiter) -> Permit:
        loop = asyncio.get_running_loop()
        self.queue.place(waiter, after=self.returns.last_tag(waiter.caller))
        waiter.future = loop.create_future()
        self.queue.put(waiter)
        timeout = loop.call_later(max(0.0, waiter.deadline_s - elapsed_s()), self._expire, waiter)
        try:
            self._enter(waiter)
            permit: Permit = await waiter.future
            return permit
        except AccountsChanged:
            # The request comes back as soon as it has chosen. If all that is held were returned meanwhile, the ledger would have
            # to grant it anew, and the bookings for the next moments would be lost.
            raise
        except BaseException:
            self._leave(waiter)
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                await waiter.future.result().close()
            waiter.future.cancel()
            await self.settle_idle(waiter, late=elapsed_s() >= waiter.deadline_s)
            raise
        finally:
            timeout.cancel()

    def _enter(self, waiter: Waiter) -> None:
        asked = waiter.candidates[: waiter.offered]
        for project in asked:
            project.wait_list.add(waiter)
        self._offer_later(waiter)
        for project in asked:
            self._serve(project)
        self._evaluate(waiter)
        for project in asked:
            project.poke()

    def _leave(self, waiter: Waiter) -> None:
        self.queue.remove(waiter)
        for project in waiter.candidates[: waiter.offered]:
            project.wait_list.remove(waiter)

    async def aclose(self) -> None:
        """Reject waiting requests and return what is held. The server has ended the requests in flight before."""
        for waiter in list(self.queue):
            self._refuse(waiter, Unavailable("This instance is shutting down.", retry_after_s=1))
        if self._offering is not None:
            self._offering.cancel()
        for project in list(self.projects.values()):
            await project.aclose()

    async def settle_idle(self, waiter: Waiter, *, late: bool = False) -> None:
        """Settle and return what no request here needs, before the response ends, after which the CPU may stop.

        `late`: the caller's deadline has passed, so a slow ledger is not waited for."""
        asked = waiter.candidates[: waiter.offered]
        returns = [
            project.give_back(late=late)
            for project in asked
            if project.idle() and project.has_unreported() and not project.lingers()
        ]
        if returns:  # All at once: the caller waits for the slowest ledger, not for one after the other.
            await asyncio.shield(asyncio.gather(*returns))

    # -- serving -----------------------------------------------------------------------------------------------------

    def released(self, project: ProjectClient) -> None:
        self.disconnect(project.account)
        self._serve(project)
        project.poke()

    async def connect(self, account: Account, wait_s: float) -> bool:
        """Take a connection for a request that needs no permit. False: none became free within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self.connections.wait(account.ephemeral)
            return True
        except TimeoutError:
            return False
        finally:
            self._hand_out()

    def disconnect(self, account: Account) -> None:
        """Release the connection of a request to `account` that has ended."""
        self.connections.release(account.ephemeral)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free connections to the waiting requests with the earliest turn, over all ledgers."""
        while (project := self.connections.next_line()) is not None:
            self._serve(project)
            project.poke()

    def _changed(self, project: ProjectClient) -> None:
        """The ledger answered, a call to it failed, or a booking became valid."""
        self._serve(project)
        self._evaluate_all(project)

    def _serve(self, project: ProjectClient) -> None:
        """Serve waiting requests in order; smaller requests of a model may pass the first one that does not fit."""
        line = project.wait_list
        if not line.count:
            return
        slots, guest = project.free_slots(), project.account.ephemeral
        if slots > 0 and not self.connections.has_room(guest):
            self.connections.enter(project, guest, line.first_turn())
        elif slots > 0:
            now_s = elapsed_s()
            closed = {model for model in line.models if project.out_of_permits(model)}
            misses: dict[str, int] = {}
            smallest: dict[str, Cost] = {}
            for waiter in line.turns(self.queue.priorities(), slots, closed):
                if waiter.future.done():
                    continue
                if self._has_too_little_left(waiter, now_s):
                    self._expire(waiter)
                    continue
                model = project.names.section(waiter.model)
                least = smallest.get(model)
                permit = (
                    None if least is not None and at_least(waiter.cost, least) else self._try(project, waiter, now_s)
                )
                if permit is not None:
                    self._serve_with(waiter, permit)
                    if project.free_slots() <= 0:
                        break
                    if not self.connections.has_room(guest):
                        if line.count:
                            self.connections.enter(project, guest, line.first_turn())
                        break
                    continue
                if not project.covers(waiter.ends_s):
                    continue  # Shorter requests may begin until a renew covers its deadline.
                smallest[model] = waiter.cost if least is None or at_least(least, waiter.cost) else least
                misses[model] = misses.get(model, 0) + 1
                if misses[model] >= SCAN or project.out_of_permits(model):
                    closed.add(model)
        project.expect_opening()

    def _has_too_little_left(self, waiter: Waiter, now_s: float) -> bool:
        """Whether the model has become too slow for the waiter's deadline since it began to wait."""
        least_s = self.times.fastest_tenth_s(waiter.model, now_s, streamed=waiter.streamed)
        return waiter.ends_s - now_s < least_s

    def _serve_with(self, waiter: Waiter, permit: Permit) -> None:
        waiter.future.set_result(permit)
        self.queue.served(waiter)
        self._leave(waiter)

    def _offer_later(self, waiter: Waiter) -> None:
        if waiter.offered < len(waiter.candidates):
            self._offers.append((elapsed_s() + OFFER_S, waiter, waiter.future))
            if self._offering is None:
                self._offering = asyncio.get_running_loop().call_later(OFFER_S, self._offer)

    def _offer(self) -> None:
        """Offer waiters that one project could not serve to the next."""
        self._offering = None
        now_s = elapsed_s()
        asked: dict[ProjectClient, None] = {}
        while self._offers and self._offers[0][0] <= now_s:
            _, waiter, future = self._offers.popleft()
            # A waiter that came back with a lapsed permit waits a second time: offers of its first wait are void.
            if future.done() or waiter not in waiter.candidates[0].wait_list:
                continue
            project = waiter.candidates[waiter.offered]
            waiter.offered += 1
            project.wait_list.add(waiter)
            asked[project] = None
            self._offer_later(waiter)
        if self._offers and self._offering is None:
            wait_s = max(0.0, self._offers[0][0] - now_s)
            self._offering = asyncio.get_running_loop().call_later(wait_s, self._offer)
        for project in asked:
            self._serve(project)
            project.poke()

    # -- rejecting ---------------------------------------------------------------------------------------------------

    def _evaluate_all(self, project: ProjectClient) -> None:
        """Reject requests that would wait in vain: checked once per waiter after the ledger's answer, and whenever the
        ledger cannot be reached."""
        failing = project.ledger.is_failing()
        for name, model in list(project.wait_list.models.items()):
            permits = project.holdings.permits(name)
            evaluated_s, stopped_ms = permits.updated_s, permits.open_until_ms
            stops = stopped_ms > max(model.stopped_ms, project.clock.earliest_ms())
            if failing or stops:
                waiters = [entry[2] for priority in model.order.lists for entry in priority]
                model.stopped_ms = stopped_ms
                for waiter in waiters:
                    waiter.evaluated = waiter.evaluated and not stops
            elif evaluated_s > model.evaluated_s:
                model.evaluated_s, waiters = evaluated_s, list(model.not_evaluated.values())
            else:
                continue
            for waiter in waiters:
                self._evaluate(waiter)
                if waiter.evaluated:
                    model.not_evaluated.pop(waiter.sequence, None)

    def _evaluate(self, waiter: Waiter) -> None:
        if not waiter.future.done():
            error = rejection_for(waiter, self.returns)
            if error is not None:
                self._refuse(waiter, error)

    def _refuse(self, waiter: Waiter, error: Exception) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(error)
        self._leave(waiter)

    def _expire(self, waiter: Waiter) -> None:
        if waiter.future.done():
            return
        starved = [project for project in waiter.candidates[: waiter.offered] if project in self.connections]
        if starved:
            self._refuse(waiter, unconnected(waiter, self.returns, starved[0], self.connections.most))
        else:
            self._refuse(waiter, timeout_error(waiter, self.returns))
