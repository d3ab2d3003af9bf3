"""What one process may spend of one Google project now: slots, authority and each model's permits. Everything that changes it is
here and in `model_permits`. Pure: time is an argument, nothing is awaited, and `policy` only reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from shared.accounts.account import Account
from shared.admission.bookings import PermitDraw
from shared.admission.cancelled import Cancelled
from shared.admission.config import ProcessConfig
from shared.admission.deadlines import Deadlines
from shared.admission.model_permits import ModelPermits
from shared.admission.names import Names
from shared.admission.server_clock import Instant
from shared.generation import Cost
from shared.ledger.batches import closed_until_ms
from shared.ledger.circuit import circuits_of, open_until_ms, probe_ms_of, reason_of
from shared.ledger.limits import minimum
from shared.ledger.parties import FEW
from shared.ledger.state import (
    BATCHES,
    UNPROVEN,
    Demand,
    Lacking,
    ModelGrant,
    Named,
    QuotaSignal,
    RenewRequest,
    RenewResult,
    State,
)

ALL_GRANTED_SHARE = 0.5
"""After this part of the usual time permits are asked for again where all that was asked for was granted."""
NO_ROOM_S = 5.0
"""Wait before permits are requested again for a model for which the ledger had no room."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one model needs from the next renew."""

    costs: list[Cost]
    """The costs of waiting requests that could be dispatched soon, in serving order."""
    spare: int = 0
    """Requests that are expected beyond these."""
    spare_ms: int = 0
    """For how long spare permits are to be valid."""
    reach_ms: int = 0
    """How long the most patient of them can wait."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next renew, as `policy` decided it: `request` lacks the demands, which `Holdings.prepare` fills in."""

    request: RenewRequest
    needs: dict[str, Need]


@dataclass(frozen=True, slots=True)
class SlotLimit:
    """What a read of the document shows about slots: how many may still be used, whether slots are scarce, and who else waits."""

    cap: int
    scarce: bool
    lacking: Lacking


class Holdings:
    """One project's holdings. Times in ms are the store's, times in s are elapsed time."""

    def __init__(self, account: Account, config: ProcessConfig) -> None:
        self.account, self.config = account, config
        self.names = Names(account, config.known, config.batches)
        self.models: dict[str, ModelPermits] = {}
        """By section of the ledger."""
        self.open: dict[int, str] = {}
        """Requests that hold a slot, each with its caller: from taking the permit until the exchange is over."""
        self.cancelled = Cancelled()
        self.deadlines = Deadlines(config.tau_s, config.grid.window_ms / 1000)
        self.cap = 0
        """Slots that may be used while `authority_ms` lasts."""
        self.held = 0
        """Slots that the ledger keeps for this process; more than `cap` while some are to be returned."""
        self.claimed = 0
        """Slots that the last renew asked for."""
        self.scarce = False
        """Whether an instance lacks slots, as far as the ledger's document showed."""
        self.lacking = Lacking()
        """The other instances that wait for slots, as far as the ledger's document showed."""
        self.busiest = 0
        """The most slots in use at once since the document was last read or written."""
        self.peak = 0
        """The most slots recently in use at once."""
        self.service_s = 0.0
        """How long an exchange recently took."""
        self.authority_ms = 0.0
        """Until when anything may be dispatched."""
        self.covered_ms = 0.0
        """No request may begin that ends later at Gemini: other instances may have its slot from then on."""
        self.extend = False
        """Whether a request waits only because its deadline is later than that: a renew is due, which states it."""
        self.epoch = 0
        """Grows when authority had lapsed before it was renewed: permits taken before then have lost their slots."""
        self.grant: RenewResult | None = None
        """The ledger's last answer."""
        self.refusals: list[QuotaSignal] = []
        """Gemini's refusals that the ledger has not been sent yet."""

    def reconfigure(self, account: Account) -> None:
        """The limits of `account`, from a newer configuration, apply from now on."""
        self.account = self.names.account = account
        for section, permits in self.models.items():
            permits.reconfigure(self.names.limits(section))

    def permits(self, section: str) -> ModelPermits:
        """The permits of `section`, which are created empty if there are none."""
        found = self.models.get(section)
        if found is None:
            section = self.names.root(section)
            found = self.models.get(section)
            if found is None:
                found = self.models[section] = self._empty(section)
        return found

    def permits_of(self, model: str) -> ModelPermits:
        """The permits of the section in which requests for the id `model` count."""
        return self.permits(self.names.section(model))

    def view(self, section: str) -> ModelPermits:
        """As `permits`, but nothing is created: changes to an empty result are lost."""
        section = self.names.root(section)
        return self.models.get(section) or self._empty(section)

    def _empty(self, section: str) -> ModelPermits:
        limits = self.names.limits(section)
        return ModelPermits(self.config.grid, limits, limits, single=section == UNPROVEN)

    # -- spending ----------------------------------------------------------------------------------------------------

    def in_use(self, now_s: float) -> int:
        """Slots that exchanges hold, cancelled ones on which Gemini may still work included."""
        return len(self.open) + self.cancelled.count(now_s) if self.cancelled else len(self.open)

    def has_authority(self, at: Instant) -> bool:
        return at.known and at.latest_ms <= self.authority_ms

    def draw(self, section: str, cost: Cost, at: Instant) -> PermitDraw | None:
        """Reserve permits for one request that takes a slot now; None if permits or a slot are missing."""
        if self.in_use(at.now_s) >= self.cap or at.latest_ms > self.authority_ms:
            return None
        return self.permits(section).draw(cost, at.earliest_ms, at.latest_ms)

    def covers(self, ends_s: float, at: Instant) -> bool:
        """Whether a request with the deadline `ends_s` that is dispatched now ends at Gemini while its slot is kept for it."""
        return self.deadlines.ends_ms(ends_s, at.now_s, at.latest_ms) <= self.covered_ms

    def ask_to_cover(self, ends_s: float, at: Instant) -> None:
        """Let the next renew cover a request with the deadline `ends_s`, which could begin otherwise."""
        if self.in_use(at.now_s) < self.cap and self.has_authority(at):
            self.deadlines.expect(ends_s - at.now_s, at.now_s)
            self.extend = True

    def begin(self, request: int, caller: str, now_s: float) -> None:
        """`request` takes a slot."""
        self.open[request] = caller
        in_use = self.in_use(now_s)
        if in_use > self.busiest:
            self.busiest = in_use
        if in_use > self.peak:
            self.peak = in_use

    def end(self, request: int, took_s: float, runs_on_s: float, now_s: float) -> str | None:
        """`request` gives its slot back, or keeps it while Gemini may still work on it, for `runs_on_s`. Returns its caller; None
        if it had ended before."""
        caller = self.open.pop(request, None)
        if caller is None:
            return None
        self.deadlines.end(request)
        if runs_on_s > 0:
            self.cancelled.add(now_s + runs_on_s)
            took_s += runs_on_s
        self.service_s = took_s if not self.service_s else 0.9 * self.service_s + 0.1 * took_s
        return caller

    def out_of_permits(self, section: str, at: Instant) -> bool:
        """Whether not even the smallest request that counts in `section` could be dispatched now."""
        if self.in_use(at.now_s) >= self.cap or at.latest_ms > self.authority_ms:
            return True
        return not self.permits(section).any_valid(at.earliest_ms, at.latest_ms)

    def may_write(self, section: str, draw: PermitDraw, probe_ms: float, at: Instant) -> bool:
        """The last check, right before the first byte: whether permits, slot and authority hold at this moment."""
        if not self.has_authority(at):
            return False
        return self.permits(section).may_write(draw, probe_ms, at.earliest_ms, at.latest_ms)

    def next_opening_s(self, sections: Iterable[str], at: Instant) -> float | None:
        """How long until the next booking of one of `sections` becomes valid; None if none is to come."""
        opens = [self.models[section].opens_ms(at.earliest_ms) for section in sections if section in self.models]
        known = [at_ms for at_ms in opens if at_ms is not None]
        return (min(known) - at.earliest_ms) / 1000 if known else None

    # -- exchanging with the ledger ----------------------------------------------------------------------------------

    def has_unreported(self) -> bool:
        """Whether the ledger must be sent anything, or holds anything for this process."""
        news = any(permits.has_news or permits.bookings or permits.settled for permits in self.models.values())
        return bool(news or self.held or self.refusals or self.names.unreported)

    def has_news(self) -> bool:
        """Whether Gemini answered something that every instance must learn."""
        if self.refusals or self.names.unreported:
            return True
        return any(permits.answered_probe_ms for permits in self.models.values())

    def measure(self, now_s: float) -> None:
        """Update the measured demand."""
        for permits in self.models.values():
            permits.measure(now_s)
        self.busiest = self.in_use(now_s)
        self.peak = max(self.busiest, int(self.peak * 0.8))

    def prepare(self, plan: Plan, latest_ms: float) -> RenewRequest:
        """Move what is to be reported into a renew, and give up what it returns, which must not be used meanwhile."""
        wanted, demands = plan.request.want_slots, {}
        for section, need in plan.needs.items():
            permits = self.permits(section)
            # Without a slot nothing can be dispatched: what was booked is given back, and asked for anew.
            used = sum(cost.requests for cost in need.costs) + need.spare
            permits.trim(used if wanted and self.cap else 0)
            permits.expire(latest_ms)
            if wanted or permits.bookings or permits.settled or permits.has_news:
                demands[section] = permits.demand(need.costs, need.spare, need.reach_ms, latest_ms, need.spare_ms)
            else:
                del self.models[section]
        request = replace(
            plan.request, demands=demands, refusals=tuple(self.refusals), names=tuple(self.names.unreported)
        )
        self.refusals.clear()
        self.names.unreported.clear()
        for permits in self.models.values():
            permits.reported()
        self.cap = min(self.cap, request.hold) if wanted else 0
        # Until the result arrives only what the ledger covers in any case may begin: a new lease never ends before the old one.
        self.covered_ms = min(self.covered_ms, max(request.open_until_ms, self.authority_ms + request.tau_ms))
        return request

    def adopt(
        self, grant: RenewResult, request: RenewRequest, at: Instant, retry_s: float, spare_retry_s: float
    ) -> bool:
        """Apply the ledger's answer to `request`. `retry_s` and `spare_retry_s`: when permits that it did not grant may be asked
        for again. Returns whether ids count in other sections than before."""
        if at.latest_ms > self.authority_ms:
            self.epoch += 1
        self.grant, self.cap, self.authority_ms = grant, grant.cap, float(grant.authority_ms)
        self.covered_ms, self.extend = float(grant.reuse_ms), False
        self.scarce, self.claimed = grant.scarce_slots, request.want_slots
        self.lacking = grant.lacking
        # The slots of cancelled exchanges that an idle instance leaves with the ledger end by themselves.
        self.held = max(request.hold, grant.cap) if request.want_slots else 0
        renamed = self._regroup(self.names.hear(grant.names))
        kept, allotments, moved = self.names.regrouped(request, grant)
        for section in kept.keys() & self.models.keys():
            self.models[section].retry_s = at.now_s + NO_ROOM_S
        for section, allotment in allotments.items():
            permits = self.models.get(section)
            if permits is not None:
                known = permits.effective.metered
                newer = grant.limits_version > self.account.limits_version
                permits.adopt(allotment, kept.get(section, {}), at.earliest_ms, newer=newer)
                permits.stop_batches(grant.batches_until_ms)
                if section in moved:
                    permits.trim(0)
                permits.retry_s = 0.0
                if permits.effective.metered != known:
                    # The renew requested no permits under limits that it did not know, so the grant says nothing about the wait.
                    permits.last = None
                    continue
                permits.updated_s = at.now_s
                if allotment.unmet.requests:
                    permits.retry_s = retry_s
                elif allotment.per_s and grant.instances > FEW:
                    # Who was granted all that it asked for, and needs more, did not ask for its whole share.
                    part = 1.0 if _refused_any(request.demands.get(section), allotment) else ALL_GRANTED_SHARE
                    permits.retry_s = at.now_s + part * (retry_s - at.now_s)
                permits.spare_retry_s = spare_retry_s
        self._keep_refusals()
        return renamed

    def observe(self, state: State) -> bool:
        """Apply the names and circuits of a document that was read: a model whose circuit was closed by another instance's probe
        is served here from now on, a stopped one is not. Returns whether ids count in other sections than before."""
        renamed = self._regroup(self.names.hear(state.names))
        batches_until_ms = closed_until_ms(state)
        for model, permits in self.models.items():
            permits.stop_batches(batches_until_ms)
            section = state.sections.get(model)
            circuits = circuits_of(state, section)
            if permits.single:
                # The turn of unproven ids is only taken with a write; the document may still show one that is over here.
                if circuits:
                    permits.set_circuit(open_until_ms(circuits), 0, reason_of(circuits))
            elif circuits or (permits.open_until_ms and section is not None):
                probe_ms = probe_ms_of(circuits, self.config.instance, model)
                permits.set_circuit(open_until_ms(circuits), probe_ms, reason_of(circuits))
        self._keep_refusals()
        return renamed

    def limit_slots(self, slots: SlotLimit, now_s: float) -> None:
        """Stop using slots that other instances are due. A renew returns them once they are free."""
        self.cap, self.scarce, self.busiest = slots.cap, slots.scarce, self.in_use(now_s)
        self.lacking = slots.lacking

    def lose_authority(self) -> None:
        """Dispatch nothing before the next renew, because the store's clock contradicted itself."""
        self.authority_ms = 0.0

    # -- learning from Gemini ----------------------------------------------------------------------------------------

    def refuse(self, refusal: QuotaSignal) -> None:
        """Record Gemini's 429: the model is no longer dispatched here, and the next renew reports it."""
        self.refusals.append(refusal)
        self._keep_refusals()

    def _keep_refusals(self) -> None:
        """Keep circuits open whose refusals were not reported to the ledger yet, whatever it returned for those models."""
        for refusal in self.refusals:
            stopped = self.names.root(refusal.model)
            for section, permits in self.models.items():
                if refusal.model == BATCHES:
                    permits.stop_batches(max(permits.batches_until_ms, refusal.until_ms))
                elif not refusal.pressure and (refusal.kind == "spend" or section == stopped):
                    permits.open_circuit(refusal.reason)

    def learn_name(self, named: Named, earliest_ms: float) -> bool:
        """Record the model under which an id is metered. Returns whether ids count in other sections than before."""
        return self._regroup(self.names.learn(named, earliest_ms))

    def _regroup(self, changed: bool) -> bool:
        """Where names changed, move permits to the sections in which their ids count now."""
        if changed:
            for section, permits in list(self.models.items()):
                if self.names.root(section) != section:
                    del self.models[section]
                    self.permits(section).absorb(permits)
            for section, permits in self.models.items():
                permits.limits = self.names.limits(section)
                permits.effective = minimum([permits.effective, permits.limits])
        return changed


def _refused_any(demand: Demand | None, allotment: ModelGrant) -> bool:
    """Whether less was granted than was asked for."""
    if demand is None:
        return True
    asked = demand.spare + sum(cost.requests * count for cost, count in demand.wants)
    before = sum(cost.requests for cost in demand.kept.values())
    return sum(cost.requests for cost in allotment.bookings.values()) - before < asked
