"""What GET /health tells of the ledger: little, quickly, and something even when a document cannot be read."""

from __future__ import annotations

from functions.health.models import Answer
from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.health import MOST_PROJECTS, health_report
from shared.ledger.limits import Limits
from shared.ledger.packing import pack
from shared.ledger.state import Circuit, Outside, Section, State
from shared.secret import Secret
from shared.settings import Settings
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Put, Reading, StoreUnavailable

TEN = Limits(requests=10)


class CountedStore(MemoryStore):
    """Counts reads; those of `broken` keys fail."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken, self.reads = broken, 0

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self.reads += 1
        if key in self.broken:
            raise StoreUnavailable("no answer came in time")
        return await super().read(key, timeout_s=timeout_s)

    async def fill(self, project: str, blob: bytes) -> None:
        key = f"ledger/{project}"
        await self.transact([key], lambda *_: Change(None, {key: Put(blob)}))


def pool(*projects: str) -> Pool:
    accounts = [Account(f"account-{n}", project, Secret(f"key-{n}"), 5, TEN) for n, project in enumerate(projects)]
    return Pool(accounts, caller_limits=TEN, caller_concurrency=5)


async def projects_of(store: CountedStore, accounts: Pool) -> list[dict[str, object]]:
    report = await health_report(Settings.from_environment({"LEDGER_URL": "memory://"}), store, accounts)
    assert report["status"] == "healthy"
    Answer.model_validate(report)
    found: list[dict[str, object]] = report["ledger"]["projects"]
    return found


async def test_projects_are_told_by_their_accounts_and_only_models_with_something_to_say() -> None:
    store, now_ms = CountedStore(), 4_000_000_000_000
    refused = Section(
        outside={0: Outside(5, now_ms - 60_000, now_ms)}, circuit=Circuit(open_until_ms=now_ms + 9_000), debt_tokens=3
    )
    await store.fill("secret-project", pack(State(60_000, now_ms, {}, {"m": refused, "calm": Section(days={1: 1})})))
    (found,) = await projects_of(store, pool("secret-project", "secret-project"))
    assert found["accounts"] == ["account-0", "account-1"]
    assert list(found["models"]) == ["m"]
    about = found["models"]["m"]
    assert (about["outside_consumer"]["requests"]["since"], about["debt_tokens"]) == ("2096-10-02T07:05:40Z", 3)
    assert "secret-project" not in str(found)


async def test_a_document_that_cannot_be_read_says_why_and_the_rest_is_told() -> None:
    store = CountedStore("ledger/broken")
    await store.fill("later", b"GL\x09abc")
    later, broken, fine = await projects_of(store, pool("later", "broken", "fine"))
    assert "by another version" in str(later["reason"])
    assert broken["reason"] == "no answer came in time"
    assert fine == {"accounts": ["account-2"], "stopped": None, "models": {}}


async def test_of_many_projects_a_bounded_number_is_read() -> None:
    store = CountedStore()
    found = await projects_of(store, pool(*(f"project-{n}" for n in range(50))))
    assert (len(found), store.reads) == (MOST_PROJECTS, MOST_PROJECTS + 1)


async def test_without_a_ledger_nothing_is_told_of_projects() -> None:
    store = CountedStore("ledger/health-probe")
    report = await health_report(Settings.from_environment({"LEDGER_URL": "memory://"}), store, pool("one"))
    assert report["status"] == "degraded"
    assert "projects" not in report["ledger"]
    assert store.reads == 1


async def test_keys_of_one_project_are_named_with_what_to_set() -> None:
    accounts = pool("one", "two", "three")
    for account in accounts.server[:2]:
        accounts.learn_consumer(account, "411082643095")
    report = await health_report(Settings.from_environment({"LEDGER_URL": "memory://"}), CountedStore(), accounts)
    Answer.model_validate(report)
    (found,) = report["accounts"]["same_project"]
    assert found["accounts"] == ["account-0", "account-1"]
    assert found["message"].endswith("Set ACCOUNT_0_PROJECT and ACCOUNT_1_PROJECT to the same value.")
    assert "411082643095" not in str(report)
