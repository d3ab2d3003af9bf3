"""What is used of the limits, over several Google projects."""

from __future__ import annotations

from dataclasses import replace

from shared.accounts.account import Account
from shared.admission.merge_ledgers import merge_ledgers
from shared.generation import Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.packing import pack
from shared.ledger.state import COLLECTION, UNPROVEN, InstanceLease, Lowered, Metered, ModelState, State
from shared.ops.health import Project, read_project
from shared.ops.project_use import ModelUse, Used, counted_models, model_use, one_of_each, slots_held
from shared.secret import Secret
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Put

NOW_MS = 4_000_000_000_000
NOW = Grid.of(60.0).slot(NOW_MS)
DAY = pacific_day(NOW_MS).ordinal
LIMITS = Limits(10, 1000, 2, 100)
NOT_READ = Project(reason="no answer came in time")
NOTHING = Used()
UNKNOWN = Used(None, None, None, None)


def account(project: str, limits: Limits = LIMITS, **rest: Limits) -> Account:
    return Account(f"account-of-{project}", project, Secret("key"), 5, limits, rest)


def project(**sections: ModelState) -> Project:
    return Project(State(60_000, NOW_MS, sections=sections), NOW_MS)


def used(requests: int, tokens: int, day: int) -> ModelState:
    """In this minute and on this day; the minute before and yesterday do not count."""
    return ModelState(ring={NOW: Cost(requests, tokens, 1), NOW - 300: Cost(9, 9, 9)}, days={DAY: day, DAY - 1: 7})


def test_one_project_is_counted_once_whatever_its_keys() -> None:
    found = model_use("m", [account("a"), account("a")], {"a": project(m=used(3, 40, 5))})
    assert found == ModelUse(LIMITS, Used(3, 40, 1, 5))


async def test_projects_whose_ledgers_were_merged_are_counted_once() -> None:
    """Each account names the ledger that it was configured with."""
    store, accounts = MemoryStore(), [account("a"), account("b")]
    leases = {"i": InstanceLease(slots=3, reuse_ms=NOW_MS)}
    state = replace(project(m=used(3, 40, 5)).state or State(60_000), leases=leases)

    def step(values: object, now_ms: int) -> Change[None]:
        return Change(None, {COLLECTION + "b": Put(pack(state))})

    await store.transact([COLLECTION + "b"], step)
    await merge_ledgers(store, "a", "b", 60_000)
    read = {name: (await read_project(store, name))._replace(now_ms=NOW_MS) for name in ("a", "b")}
    assert one_of_each(accounts, read) == accounts[1:]
    assert model_use("m", accounts, read) == ModelUse(LIMITS, Used(3, 40, 1, 5))
    assert slots_held(accounts, read) == 3


def test_projects_add_up() -> None:
    found = model_use(
        "m", [account("a"), account("b")], {"a": project(m=used(3, 40, 5)), "b": project(m=used(1, 2, 6))}
    )
    assert found == ModelUse(Limits(20, 2000, 4, 200), Used(4, 42, 2, 11))


def test_one_unlimited_project_makes_the_sum_unlimited() -> None:
    found = model_use("m", [account("a"), account("b", Limits(requests=1))], {})
    assert found.limits == Limits(11, None, None, None)
    assert model_use("m", [account("a", UNLIMITED)], {}).limits == UNLIMITED


def test_what_was_not_read_is_unknown_and_not_zero() -> None:
    read = {"a": project(m=used(3, 40, 5))}
    assert model_use("m", [account("a"), account("b")], read) == ModelUse(Limits(20, 2000, 4, 200), UNKNOWN)
    assert model_use("m", [account("b")], {"b": NOT_READ}) == ModelUse(LIMITS, UNKNOWN)


def test_a_project_without_dispatches_has_used_nothing() -> None:
    for found in (Project(now_ms=NOW_MS), project(other=used(3, 40, 5))):
        assert model_use("m", [account("a")], {"a": found}) == ModelUse(LIMITS, NOTHING)


def test_a_model_has_its_own_limits() -> None:
    assert model_use("m", [account("a", m=Limits(7))], {"a": project()}).limits == Limits(7)


def test_a_limit_that_gemini_named_replaces_the_configured_one() -> None:
    lowered = ModelState(lowered={0: Lowered(4, test_ms=NOW_MS + 60_000)})
    assert model_use("m", [account("a")], {"a": project(m=lowered)}).limits == LIMITS._replace(requests=4)


def test_an_alias_is_counted_as_the_model_that_gemini_meters() -> None:
    found = project(metered=used(3, 40, 5))
    assert found.state is not None
    found.state.names["m"] = Metered("metered", NOW_MS + 1)
    assert model_use("m", [account("a", metered=Limits(8))], {"a": found}) == ModelUse(Limits(8), Used(3, 40, 1, 5))


def test_without_accounts_nothing_can_be_used() -> None:
    assert model_use("m", [], {}) == ModelUse(Limits(0, 0, 0, 0), NOTHING)


def test_json_has_the_names_of_the_settings() -> None:
    assert ModelUse(Limits(1, None, 3, 4), UNKNOWN).as_json() == {
        "limits": {"rpm": 1, "tpm": None, "ipm": 3, "rpd": 4},
        "used": {"rpm": None, "tpm": None, "ipm": None, "rpd": None},
    }


def test_models_of_all_ledgers_are_counted() -> None:
    projects = {
        "a": project(m=ModelState(), n=ModelState()),
        "b": project(**{"l": ModelState(), UNPROVEN: ModelState()}),
    }
    assert counted_models({**projects, "c": NOT_READ}) == ["l", "m", "n"]


def test_slots_of_living_leases_are_held() -> None:
    leases = {"i": InstanceLease(slots=3, reuse_ms=NOW_MS), "j": InstanceLease(slots=4, reuse_ms=NOW_MS - 1)}
    held = Project(State(60_000, NOW_MS, leases), NOW_MS)
    accounts = [account("a"), account("a"), account("b")]
    assert slots_held(accounts, {"a": held, "b": Project()}) == 3
    assert slots_held(accounts, {"a": held}) is None
