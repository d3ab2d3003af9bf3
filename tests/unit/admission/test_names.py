"""Where a process counts an id, and that unproven ids take turns over all instances. In virtual time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from shared.accounts.account import Account
from shared.admission.names import Names
from shared.admission.permit import PermitLapsed
from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.generation import Caller, Cost
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.ledger.state import NAME_KEPT_MS, UNPROVEN, Metered, Named, QuotaSignal, State
from shared.secret import Secret
from tests.support.instances import LEDGER, Site, account
from tests.support.virtual_time import run

ONE = Cost(1, 10)
DEFAULT = Limits(requests=300)
PROJECT = Account("a", "p", Secret("a"), 5, DEFAULT, {"named": Limits(requests=1_000), "small": Limits(requests=5)})
KNOWN = frozenset(["known", "named", "small"])


def names(**pairs: str) -> Names:
    result = Names(PROJECT, KNOWN)
    result.hear({name: Metered(target, NAME_KEPT_MS) for name, target in pairs.items()})
    return result


class TestNames:
    def test_known_ids_and_proven_ones_have_sections_of_their_own(self):
        found = names(proven="proven", alias="known", named="small")
        assert [found.section(model) for model in ("known", "proven", "alias", "named", "new")] == [
            "known", "proven", "known", "small", UNPROVEN,
        ]  # fmt: skip
        assert Names(PROJECT, None).section("anything") == "anything"

    def test_metered_name_does_not_prove_the_id(self):
        """An answer that names it was to another id."""
        assert names(alias="target").section("target") == UNPROVEN

    def test_limits_are_the_smallest_that_are_configured(self):
        assert names(alias="named").limits("named").requests == 1_000
        assert names(alias="new").limits("new") == DEFAULT
        assert names(named="new").limits("new").requests == 1_000, "nothing else is configured for that model"
        assert names(named="known").limits("known").requests == 300
        assert names(named="small", known="small").limits("small").requests == 5
        assert names().limits(UNPROVEN) == DEFAULT

    def test_first_answer_is_news_and_further_ones_are_not(self):
        found = names()
        assert found.learn(Named("new", "new", UNPROVEN, 7, ONE), 0.0)
        assert found.section("new") == "new"
        assert not found.learn(Named("new", "new", "new", 8, ONE), 0.0)
        assert [named.slot for named in found.unreported] == [7]

    def test_old_name_is_confirmed(self):
        found = names(alias="known")
        assert not found.learn(Named("alias", "known", "known", 7, ONE), NAME_KEPT_MS * 0.4)
        assert found.learn(Named("alias", "known", "known", 7, ONE), NAME_KEPT_MS * 0.6)

    def test_known_id_that_answers_as_itself_teaches_nothing(self):
        found = names()
        assert not found.learn(Named("known", "known", "known", 7, ONE), 0.0)
        assert found.unreported == []

    def test_every_request_that_was_booked_elsewhere_is_reported(self):
        found = names()
        assert found.learn(Named("alias", "known", UNPROVEN, 7, ONE), 0.0)
        assert found.learn(Named("alias", "known", UNPROVEN, 8, ONE), 0.0)
        assert not found.learn(Named("alias", "known", "known", 9, ONE), 0.0)

    def test_unreported_names_outlive_the_ledgers(self):
        found = names()
        found.learn(Named("alias", "known", UNPROVEN, 7, ONE), 0.0)
        assert not found.hear({})
        assert found.section("alias") == "known"
        found.unreported.clear()
        assert found.hear({}), "the ledger had no room for it"
        assert found.section("alias") == UNPROVEN

    def test_missing_model_is_unproven_again_unless_configured(self):
        found = names(proven="proven", known="small")
        assert found.learn(Named("proven", None), 0.0) and not found.learn(Named("proven", None), 0.0)
        assert found.section("proven") == UNPROVEN
        assert not found.learn(Named("known", None), 0.0)
        assert found.section("known") == "small"


@dataclass
class Gemini:
    """`metered`: by id; an id that is not there does not exist. It keeps to `limit` per metered model and minute."""

    metered: dict[str, str]
    limit: int
    answer_s: float = 0.3
    seen: dict[str, list[float]] = field(default_factory=dict)
    open_unproven: int = 0
    most_unproven: int = 0
    refused: int = 0
    missing: int = 0

    async def ask(self, site: Site, instance: int, model: str, patience_s: float = 60.0) -> str:
        deadline_s = elapsed_s() + patience_s
        while True:
            lease = await site.gates[instance].acquire([site.account], model, ONE, deadline_s, Caller("c", "admin"))
            unproven = lease.section == UNPROVEN
            try:
                lease.check()
                self.open_unproven += unproven
                self.most_unproven = max(self.most_unproven, self.open_unproven)
                try:
                    found = self.admits(model)
                    await asyncio.sleep(self.answer_s if found else 0.02)
                finally:
                    self.open_unproven -= unproven
                if found is None:
                    self.missing += 1
                    lease.answered()
                    lease.not_found()
                    return "404"
                if not found:
                    self.refused += 1
                    return "429"
                lease.metered(found)
                lease.answered()
                return found
            except PermitLapsed:
                continue
            finally:
                await lease.close(10)

    def admits(self, model: str) -> str | None:
        target = self.metered.get(model)
        if target is None:
            return None
        now_s, seen = elapsed_s(), self.seen.setdefault(target, [])
        if sum(1 for at_s in seen if at_s > now_s - 60) >= self.limit:
            return ""
        seen.append(now_s)
        return target


async def state(site: Site) -> State:
    blob = (await site.stores[0].read(f"ledger/{LEDGER}")).value
    assert blob is not None
    return unpack(blob)


@pytest.mark.parametrize("served", [True, False])
def test_report_says_whether_the_named_model_served(served: bool) -> None:
    """A 429 names its model too, and proves that it exists; it proves nothing about the model's circuit."""

    async def main() -> tuple[Named, ...]:
        site = Site(account(5, requests=300), known=frozenset(["known"]))
        site.add()
        permit = await site.gates[0].acquire([site.account], "alias", ONE, elapsed_s() + 5, Caller("c", "admin"))
        permit.check()
        if served:
            permit.metered("known")
        else:
            permit.refuse(QuotaSignal("alias"), "known")
        reported = tuple(site.gates[0].projects[LEDGER].names.unreported)
        await permit.close()
        return reported

    [named] = run(main)
    assert (named.model, named.metered, named.served) == ("alias", "known", served)


def test_a_thousand_random_ids_then_an_unused_model() -> None:
    """No section, no slot and no day of it is spent on ids that do not exist."""

    async def main() -> tuple[float, set[str], dict[int, int], Gemini]:
        random.seed(6)
        site = Site(account(5, requests=300, requests_per_day=1_000), known=frozenset(["fresh"]))
        gemini = Gemini({"fresh": "fresh"}, 300)
        for _ in range(3):
            site.add()

        async def one(at: int) -> None:
            await asyncio.sleep(at * 0.06)
            try:
                await gemini.ask(site, at % 3, f"no-such-{at}", patience_s=5.0)
            except GatewayError as error:
                assert error.code == "queue_timeout", error

        asked = [asyncio.create_task(one(at)) for at in range(1_000)]
        await asyncio.sleep(60.0)
        began_s = elapsed_s()
        assert await gemini.ask(site, 1, "fresh") == "fresh"
        took_s = elapsed_s() - began_s - gemini.answer_s
        await asyncio.gather(*asked)
        await asyncio.gather(*(gate.aclose() for gate in site.gates))
        found = await state(site)
        return took_s, set(found.sections), found.sections[UNPROVEN].days, gemini

    took_s, sections, days, gemini = run(main)
    assert took_s < 0.5
    assert sections == {UNPROVEN, "fresh"}
    assert days == {}
    assert gemini.most_unproven == 1
    assert 200 <= gemini.missing <= 600, "as many as the limit of unproven ids lets through"


def test_alias_beside_its_saturated_target() -> None:
    """At most the alias's first request is refused, and it counts as its target on all instances from then on."""

    async def main() -> tuple[Gemini, State]:
        random.seed(7)
        site = Site(account(20, requests=60), known=frozenset(["target"]))
        gemini = Gemini({"target": "target", "alias": "target"}, 60)
        for _ in range(3):
            site.add()

        async def caller(instance: int, model: str, from_s: float) -> None:
            await asyncio.sleep(from_s)
            while elapsed_s() < end_s:
                try:
                    await gemini.ask(site, instance, model, patience_s=30.0)
                except GatewayError:
                    await asyncio.sleep(1.0)

        end_s = elapsed_s() + 240.0
        callers = [caller(at % 3, "target", 0.0) for at in range(12)]
        callers += [caller(at % 3, "alias", 90.0 + at) for at in range(12)]
        await asyncio.gather(*callers)
        await asyncio.gather(*(gate.aclose() for gate in site.gates))
        return gemini, await state(site)

    gemini, found = run(main)
    assert gemini.refused <= 1
    assert gemini.most_unproven == 1
    assert found.names["alias"].model == "target"
    assert len(gemini.seen["target"]) >= 0.96 * 4 * 60, "and the limit is used whole"


def test_an_aliass_permit_lapses_when_its_target_is_named() -> None:
    """It was booked beside the target's permits; the next permit is the target's, and none is left over."""

    async def main() -> tuple[str, int]:
        random.seed(10)
        site = Site(account(5, requests=60), known=frozenset(["target", "alias"]))
        site.add()
        gate, end_s, caller = site.gates[0], elapsed_s() + 60.0, Caller("c", "admin")
        first, second = [await gate.acquire([site.account], "alias", ONE, end_s, caller) for _ in range(2)]
        first.check()
        first.metered("target")
        with pytest.raises(PermitLapsed):
            second.check()
        await second.close()
        held = sum(
            b.available.requests for p in gate.projects.values() for b in p.holdings.permits("target").bookings.values()
        )
        third = await gate.acquire([site.account], "alias", ONE, end_s, caller, again=second)
        third.check()
        for permit in (first, third):
            await permit.close(10)
        return third.section, held

    assert run(main) == ("target", 0)


def test_two_instances_prove_one_id_after_the_other() -> None:
    async def main() -> tuple[Gemini, State]:
        random.seed(8)
        site = Site(account(20, requests=60), known=frozenset())
        gemini = Gemini({f"new-{at}": f"new-{at}" for at in range(8)}, 60, answer_s=3.0)
        for _ in range(2):
            site.add()
        answers = await asyncio.gather(*(gemini.ask(site, at % 2, f"new-{at}") for at in range(8)))
        assert answers == [f"new-{at}" for at in range(8)]
        began_s = elapsed_s()
        await asyncio.gather(*(gemini.ask(site, at % 2, f"new-{at}") for at in range(8)))
        assert elapsed_s() - began_s < 8.0, "proven ids need not wait for one another"
        await asyncio.gather(*(gate.aclose() for gate in site.gates))
        return gemini, await state(site)

    gemini, found = run(main)
    assert gemini.most_unproven == 1
    assert {f"new-{at}" for at in range(8)} <= found.names.keys()


def test_waiters_of_a_model_that_is_gone_wait_as_unproven() -> None:
    """They are still served, one at a time, by whatever Gemini says next."""

    async def main() -> list[str]:
        random.seed(9)
        site = Site(account(20, requests=3), known=frozenset())
        gemini = Gemini({"new": "new"}, 60)
        site.add()
        assert await gemini.ask(site, 0, "new") == "new"
        del gemini.metered["new"]
        answers = await asyncio.gather(*(gemini.ask(site, 0, "new", patience_s=280.0) for _ in range(5)))
        await site.gates[0].aclose()
        assert "new" not in (await state(site)).names
        return answers

    assert run(main) == ["404"] * 5
