"""The ledger's state of one Google project, and the messages that change it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from shared.generation import NO_COST, Cost
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.share import Bookings as Bookings
from shared.ledger.share import InstanceShare as InstanceShare
from shared.ledger.share import SlotRange as SlotRange
from shared.ledger.supply import Supply

MAX_MODELS = 32
MAX_NAMES = 256
"""Maximum ids whose metered model the document remembers; those confirmed longest ago are dropped first."""
NAME_KEPT_MS = 7 * 24 * 3_600_000
"""How long an id's metered model is remembered after an answer confirmed it."""
UNPROVEN = "~unproven"
"""The section of all ids that no answer has named yet and the configuration does not know. No model's id contains `~`."""
BATCHES = "~batches"
"""The section of what Gemini's 429s say about batches of embeddings, whose quota is the project's. Nothing is booked in it."""
BATCH_ONLY = 0
"""In place of a number of callers."""
MAX_WANTS = 64
"""Maximum runs of waiting requests in one message; the last run stands for all the rest, at their mean cost."""


@dataclass(slots=True)
class InstanceLease:
    """One instance's hold on the project. Times are the store's, in ms since 1970."""

    renew: int = 0
    """Number of its last renew, by which a repeated one is recognised."""
    seen_ms: int = 0
    slots: int = 0
    """Concurrency slots that no other instance can have until `reuse_ms`."""
    cap: int = 0
    """The instance may dispatch while fewer than `cap` of its requests are open, until `authority_ms`."""
    authority_ms: int = 0
    reuse_ms: int = 0
    """When all that it may have dispatched has ended at Gemini: it dispatches no request with a later deadline."""
    want_slots: int = 0
    oldest_ms: int = 0
    """When its oldest waiting request came; 0 if none waits."""
    callers: int = 1
    """Its weight in sharing: how many callers are active there. BATCH_ONLY: one, and all its requests have the priority batch."""
    concurrency: int = 0
    """C as that instance is configured; the smallest of all live instances of the newest configuration applies."""
    ends_ms: tuple[int, ...] = ()
    """When each of the cancelled exchanges of an idle instance is over at Gemini, in order; each keeps one slot."""
    shares: dict[str, InstanceShare] = field(default_factory=dict)
    limits_version: int = 0
    """The version of the configuration that its limits and `concurrency` are from."""


class ExternalUsage(NamedTuple):
    """Another consumer seems to spend the same quota: at most `limit` per window is used here until it recovers."""

    limit: int
    since_ms: int
    """When the other consumer was first suspected."""
    refused_ms: int
    """When Gemini last refused this dimension: `limit` recovers from then on."""


Kind = Literal["rate", "lower", "day", "zero", "spend"]
"""Why Gemini refuses: an exceeded rate, a limit below the configured one, an exhausted day, no quota, the spend limit."""


class Exhaustion(NamedTuple):
    """How long a model rests whose quota per minute is exhausted. Times are in windows, which are minutes except in tests."""

    wait: float = 1.0
    """After a rejection that names no delay."""
    rejections: int = 3
    """So many rejections in a row make the model fully exhausted. Requests that were under way together count once."""
    full_wait: float = 720.0
    """How long it is fully exhausted at most. A probe ends that earlier if Gemini answers it."""


AS_USUAL = Exhaustion()


class Reason(NamedTuple):
    """Why requests are refused, for callers and operators. `message` is Google's sentence (`circuit.sentence`), "" if unknown."""

    kind: Kind
    message: str = ""
    until_ms: int = 0
    """When Gemini is asked again."""


@dataclass(slots=True)
class Circuit:
    """A stop of all requests to one model, or to all models of the project. See `circuit.py`."""

    kind: Kind = "rate"
    message: str = ""
    open_until_ms: int = 0
    """Nothing is dispatched before this time, and afterwards one probe until it is answered; 0 while the circuit is closed."""
    pause_ms: int = 0
    """The length of the circuit's last pause."""
    refused_ms: int = 0
    """When the last refused request was dispatched."""
    owner: str = ""
    """The instance that may send, or has sent, the probe."""
    model: str = ""
    """The probe's model."""
    probe_ms: int = 0
    """Until when the owner may send it; then the next instance may."""
    since_ms: int = 0
    """When the circuit opened for its current reason; 0 if unknown."""
    rejections: int = 0
    """Of the kind `rate`: the rejection that opened the circuit, and those of its probes since."""


@dataclass(slots=True)
class Lowered:
    """A limit that Gemini named below the configured one. See `circuit.py`."""

    limit: int
    message: str = ""
    pause_ms: int = 0
    test_ms: int = 0
    """From this time on one more request is allowed, to test whether the limit still applies."""
    reached: int = 0
    """More than `limit` that was dispatched within one window since then; 0 until it was."""
    reached_ms: int = 0
    rising_ms: int = 0
    """Since when the limit rises because Gemini took more; 0 while it does not."""


@dataclass(slots=True)
class ModelState:
    """What was dispatched to one model, and what Gemini said about its limits."""

    ring: dict[int, Cost] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    """Requests per Pacific date (ordinal)."""
    paced_ms: int = 0
    """Demand is paced until this time, because some was recently left unmet."""
    circuit: Circuit = field(default_factory=Circuit)
    outside: dict[int, ExternalUsage] = field(default_factory=dict)
    """By dimension of a Cost."""
    lowered: dict[int, Lowered] = field(default_factory=dict)
    """By field of Limits."""
    debt_tokens: int = 0
    """Input tokens used beyond what was reserved for them, ever: the under-estimates."""


class Metered(NamedTuple):
    """The model under which Gemini meters an id, according to its answers."""

    model: str
    until_ms: int
    """When it is forgotten unless another answer confirms it."""


COLLECTION = "ledger/"
"""A project's document in the store is this and the id of its ledger."""


@dataclass(slots=True)
class State:
    """One Google project."""

    window_ms: int
    now_ms: int = 0
    leases: dict[str, InstanceLease] = field(default_factory=dict)
    sections: dict[str, ModelState] = field(default_factory=dict)
    names: dict[str, Metered] = field(default_factory=dict)
    """By id, for ids that are aliases, and for proven ones that the configuration does not know (`names.section_of`)."""
    pressure_c: int = 0
    """Concurrency after the last refusal without a quota (shared capacity); recovers from `pressure_ms` on."""
    pressure_ms: int = 0
    spend: Circuit = field(default_factory=Circuit)
    """The circuit that stops all models when the project exceeds its spend."""
    accepted: bool = False
    """Whether Gemini has accepted this caller's own key, so that its daily usage must be kept."""
    moved: str = ""
    """The id of the ledger that took over all that was here; "" while this document is in use. See `merging.py`."""


@dataclass(frozen=True, slots=True)
class QuotaSignal:
    """Gemini's 429 as reported to the ledger. `pressure`: shared capacity was exceeded, not a quota of the project."""

    model: str
    until_ms: int = 0
    learned: Limits = UNLIMITED
    pressure: bool = False
    minute: tuple[int, ...] = ()
    """The dimensions of a Cost whose quota per minute was exceeded."""
    sent_ms: int = 0
    """When the refused request was dispatched (the store's time)."""
    guessed: bool = False
    """Whether `until_ms` is the first pause of its kind, because Gemini named no time (or none that is believed)."""
    kind: Kind = "rate"
    message: str = ""

    @property
    def reason(self) -> Reason:
        return Reason(self.kind, self.message, self.until_ms)


@dataclass(frozen=True, slots=True)
class Named:
    """The name in an answer to the requested id. `metered`: the model under which Gemini metered the request; None: Gemini has
    no such model any more."""

    model: str
    metered: str | None
    section: str = ""
    """The section in which the request was booked: its cost moves to the section of `metered`."""
    slot: int = 0
    """The slot in which it was dispatched."""
    cost: Cost = NO_COST
    served: bool = False
    """Whether Gemini served the request; a 429 names its model too."""


@dataclass(frozen=True, slots=True)
class Demand:
    """An instance's report and demand for one model."""

    limits: Limits
    settled: dict[int, Cost] = field(default_factory=dict)
    """Dispatched since the last renew, by slot; token corrections (also negative) in the slot of their dispatch."""
    kept: Bookings = field(default_factory=dict)
    """Bookings not yet dispatched that it keeps; all its other bookings are returned."""
    wants: tuple[tuple[Cost, int], ...] = ()
    """Requests waiting beyond what `kept` serves, as runs of equal cost in serving order (<= MAX_WANTS runs)."""
    head: bool = False
    """Whether the first of them is the first of all that wait: it is booked at the first free slot, however far."""
    reach_ms: int = 0
    """How long the first of them can wait; a booking further ahead is useless to it."""
    spare: int = 0
    """Requests like the last wanted that are expected within a few seconds; served only after all that wait."""
    spare_ms: int = 0
    """How far ahead permits are wanted for spare requests. They are valid for longer than this, and at least as long as those of
    other requests."""
    typical: Cost = Cost(1)
    """The cost of such a request."""
    waiting: bool = False
    """Whether any request waits: it could be sent as a circuit's probe."""
    probing: bool = False
    """Whether a probe is under way here."""
    answered_ms: int = 0
    """The `probe_ms` of a probe that was answered and not rejected; 0 if none."""
    debt_tokens: int = 0
    """The sum of upward token corrections."""
    not_found: dict[int, int] = field(default_factory=dict)
    """Dispatches that Gemini answered with 404, by slot: they count in the minute but not in the day."""


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """One message of an instance to the ledger. Repeating it changes nothing."""

    instance: str
    number: int
    earliest_ms: int
    """Lower bound of the store's time when this was made."""
    concurrency: int
    tau_ms: int
    """No request that this instance begins within the lease is open longer at Gemini."""
    limits_version: int = 0
    """The version of the configuration that `concurrency` and the limits of `demands` are from; 0: the environment."""
    open_slots: int = 0
    """Its open requests, and cancelled ones on which Gemini still works."""
    service_ms: int = 0
    """How long a request of it usually takes; 0 if unknown."""
    lease_ms: int = 0
    """The length of the lease; 0 lets the ledger decide."""
    hold: int = 0
    """Slots that it may use until the result arrives: open requests, cancelled ones on which Gemini still works, and requests
    that may begin meanwhile."""
    open_until_ms: int = 0
    """When all of its open requests have ended at Gemini, cancelled ones included; 0 if there are none."""
    ends_ms: tuple[int, ...] = ()
    """When each of the cancelled exchanges is over at Gemini (the store's time); only from an idle instance, which may be stopped
    before then."""
    want_slots: int = 0
    """Open requests and those that could be dispatched now; 0 gives everything back but the slots of `ends_ms`."""
    spare_slots: int = 0
    unclaimed: bool = False
    """Whether to take free slots that other instances are due and have not taken: they may have ended. A live one asks again."""
    oldest_ms: int = 0
    callers: int = 1
    demands: dict[str, Demand] = field(default_factory=dict)
    refusals: tuple[QuotaSignal, ...] = ()
    exhaustion: Exhaustion = AS_USUAL
    """How long the refusals stop a model whose quota per minute is exhausted."""
    names: tuple[Named, ...] = ()
    gone: frozenset[str] = frozenset()
    """Instances known to have ended: their sockets are closed, so their slots are free."""


@dataclass(frozen=True, slots=True)
class ModelGrant:
    """The result of a renew for one model: all its bookings, old and new."""

    bookings: Bookings
    limits: Limits = UNLIMITED
    """The limits in force: the configured ones, or lower ones that Gemini named. A part may be left to another consumer."""
    configured: Limits = UNLIMITED
    """The smallest limits that any instance of the newest configuration is configured with."""
    free: Cost = NO_COST
    """What a window that ends now has left, for each limited dimension."""
    open_until_ms: int = 0
    """When the circuit becomes half-open; 0 while it is closed. Until then nothing is dispatched, afterwards only the probe."""
    probe_ms: int = 0
    """Until when this instance may send the probe; 0 if it may not."""
    stop: Reason | None = None
    """Why the circuit is open; None while it is closed."""
    lower: Reason | None = None
    """The limit that Gemini named below the configured one: its sentence, and when the costliest waiting request may be sent."""
    unmet: Cost = NO_COST
    next_ms: int = 0
    """Earliest time at which the first unmet request could be served, by the calendar; 0 if unknown."""
    per_s: float = 0.0
    """Requests per second granted to this instance while demand exceeds the limit; 0 if unknown."""
    day_spent: bool = False
    supply: Supply | None = field(default=None, compare=False)
    """When demand beyond `bookings` will be granted; None while there is plenty."""


class Lacking(NamedTuple):
    """How many instances want more slots than they hold."""

    none: int = 0
    """Those that hold no slot."""
    some: int = 0
    """Those that hold some."""


NONE_LACKS = Lacking()


@dataclass(frozen=True, slots=True)
class RenewResult:
    """The ledger's answer to a RenewRequest."""

    cap: int
    authority_ms: int
    scarce_slots: bool
    """Whether fewer slots were granted than wanted, or none is left for others: read the document again soon."""
    instances: int
    horizon_ms: int
    """How far ahead scarce permits are booked: renewing about every half of it loses nothing."""
    allotments: dict[str, ModelGrant]
    names: dict[str, Metered] = field(default_factory=dict)
    """All known names of ids (`State.names`)."""
    lacking: Lacking = NONE_LACKS
    """The other instances that wait for slots."""
    free_slots: int = 0
    """Slots that no instance holds."""
    batches_until_ms: int = 0
    """Until when no batch of embeddings is dispatched, because Gemini rejected one; 0 if they are."""
    reuse_ms: int = 0
    """No request may be dispatched that ends later at Gemini: then other instances may get its slot."""
    limits_version: int = 0
    """The newest version of the configuration among the instances; its limits apply."""
    moved: str = ""
    """The ledger that took over: nothing was applied, and the same message is due there. "" from a document that is in use."""
    fresh: bool = True
    """False when this renew had been applied before and nothing was changed."""
