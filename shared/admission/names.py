"""Which section of its project's ledger a model id counts in, as far as this process knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shared.accounts.account import Account
from shared.ledger.limits import Limits, minimum
from shared.ledger.names import added, combined_allotment, section_of
from shared.ledger.state import NAME_KEPT_MS, UNPROVEN, Bookings, Metered, ModelGrant, Named, RenewRequest, RenewResult


class Names:
    """The names of one project. `unreported`: names from answers, which apply here at once and are reported by the next renew."""

    def __init__(
        self, account: Account, known: frozenset[str] | None, batches: Mapping[str, int] | None = None
    ) -> None:
        self.account, self._known, self._batches = account, known, batches or {}
        self._names: dict[str, Metered] = {}
        self.unreported: list[Named] = []

    def knows(self, model: str) -> bool:
        """Whether the model table or the configuration lists it."""
        return self._known is None or model in self._known or model in self.account.model_limits

    def section(self, model: str) -> str:
        """Where a request for the id `model` counts."""
        named = self._names.get(model)
        if named is None:
            return model if self.knows(model) else UNPROVEN
        return model if named.model == model else section_of(self._names, model)

    def root(self, section: str) -> str:
        """The section into which `section` was merged, or `section` itself."""
        return section_of(self._names, section)

    def limits(self, section: str) -> Limits:
        """The smallest limits configured for the models that count there. The default limit applies only to models that the table
        lists, and where no model has a limit of its own."""
        ids = [section, *(name for name in self._names if section_of(self._names, name) == section)]
        stated = [self.account.limits_for(model) for model in ids if model != UNPROVEN and self.knows(model)]
        limits = minimum(stated) if stated else self.account.limits
        batches = [self._batches[model] for model in ids if model in self._batches]
        return limits._replace(batches=min(batches)) if batches and limits.batches is None else limits

    def learn(self, named: Named, now_ms: float) -> bool:
        """Record the model under which Gemini metered a request; None: Gemini has no such model, so its id is unproven again.
        Returns whether that is new."""
        model, metered, known = named.model, named.metered, self._names.get(named.model)
        if metered is None:
            if known is None or self.knows(model):
                return False
            del self._names[model]
        else:
            lasts = known.until_ms - now_ms > NAME_KEPT_MS / 2 if known else self.knows(model)
            same = (known.model if known else model) == metered
            if lasts and same and self.root(named.section) == self.section(model):
                return False
            self._names[model] = Metered(metered, int(now_ms) + NAME_KEPT_MS)
        self.unreported.append(named)
        return True

    def regrouped(
        self, message: RenewRequest, grant: RenewResult
    ) -> tuple[dict[str, Bookings], dict[str, ModelGrant], set[str]]:
        """By current section: the bookings that `message` reported as kept, and what `grant` returned; and the sections in which
        part of that was granted for an alias that the ledger counted beside its target: the limit may be exceeded by it."""
        kept: dict[str, Bookings] = {}
        for name, demand in message.demands.items():
            section = self.root(name)
            kept[section] = added(kept[section], demand.kept) if section in kept else demand.kept
        allotments: dict[str, ModelGrant] = {}
        for name, allotment in grant.allotments.items():
            section, other = self.root(name), allotments.get(self.root(name))
            allotments[section] = allotment if other is None else combined_allotment(other, allotment)
        # A repeated renew returns what its first application granted, which may have been merged since.
        granted = grant.allotments if grant.fresh else {**grant.allotments, **message.demands}
        return kept, allotments, {self.root(name) for name in granted if self.root(name) != name}

    def hear(self, names: Mapping[str, Metered]) -> bool:
        """Replace the names by the ledger's, plus those not yet reported to it. Returns whether anything changed."""
        heard = dict(names)
        for named in self.unreported:
            if named.metered is None:
                heard.pop(named.model, None)
            else:
                heard[named.model] = self._names.get(named.model) or Metered(named.metered, 0)
        changed = {n: known.model for n, known in heard.items()} != {n: known.model for n, known in self._names.items()}
        self._names = heard
        return changed
