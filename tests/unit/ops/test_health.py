"""What GET /health tells of the ledger: little, quickly, and something even when a document cannot be read."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from functions.health.models import Answer
from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys
from shared.admission.merge_ledgers import merge_ledgers
from shared.clock import elapsed_s
from shared.engine import environment_accounts
from shared.ledger.limits import Limits
from shared.ledger.packing import pack
from shared.ledger.state import Circuit, ExternalUsage, InstanceLease, ModelState, State
from shared.ops.accounts_states import state_rows
from shared.ops.health import CACHE_S, MAX_PROJECTS, Health
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Outcome, Put, Reading, Step, Store, StoreUnavailable
from shared.stores.sqlite import SqliteStore

PLACE = "/srv/secret place/ledger.db"
T = TypeVar("T")
TEN = Limits(requests=10)


class CountedStore(MemoryStore):
    """Counts reads of projects, and probes; reads of `broken` keys fail, and every write while `full`."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken, self.reads, self.probes, self.full = broken, 0, 0, False

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self.reads += 1
        if key in self.broken:
            raise StoreUnavailable("no answer came in time")
        return await super().read(key, timeout_s=timeout_s)

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        self.probes += 1
        if self.full:
            raise StoreUnavailable(
                "The store's file /srv/secret place/ledger.db cannot be used: the disk is full.", PLACE
            )
        return await super().transact(keys, step, cached=cached, timeout_s=timeout_s)

    async def fill(self, project: str, blob: bytes) -> None:
        key = f"ledger/{project}"
        await self.transact([key], lambda *_: Change(None, {key: Put(blob)}))


def pool(*projects: str) -> Pool:
    accounts = [Account(f"account-{n}", project, Secret(f"key-{n}"), 5, TEN) for n, project in enumerate(projects)]
    return Pool(accounts, caller_limits=TEN, caller_concurrency=5)


def health(store: Store, accounts: Pool, elapsed: Callable[[], float] = elapsed_s, **env: str) -> Health:
    return Health(Settings.from_environment({"LEDGER_URL": "memory://", **env}), store, accounts, elapsed)


async def projects_of(store: CountedStore, accounts: Pool) -> list[dict[str, object]]:
    report = await health(store, accounts).report()
    assert report["status"] == "healthy"
    Answer.model_validate(report)
    found: list[dict[str, object]] = report["ledger"]["projects"]
    return found


async def test_projects_show_accounts_and_notable_models() -> None:
    store, now_ms = CountedStore(), 4_000_000_000_000
    refused = ModelState(
        outside={0: ExternalUsage(5, now_ms - 60_000, now_ms)},
        circuit=Circuit(open_until_ms=now_ms + 9_000),
        debt_tokens=3,
    )
    await store.fill("secret-project", pack(State(60_000, now_ms, {}, {"m": refused, "calm": ModelState(days={1: 1})})))
    (found,) = await projects_of(store, pool("secret-project", "secret-project"))
    assert found["accounts"] == ["account-0", "account-1"]
    assert list(found["models"]) == ["m"]
    about = found["models"]["m"]
    assert (about["outside_consumer"]["requests"]["since"], about["debt_tokens"]) == ("2096-10-02T07:05:40Z", 3)
    assert "secret-project" not in str(found)


async def test_unreadable_document_does_not_hide_the_rest() -> None:
    store = CountedStore("ledger/broken")
    await store.fill("later", b"GL\x09abc")
    later, broken, fine = await projects_of(store, pool("later", "broken", "fine"))
    assert "by another version" in str(later["reason"])
    assert broken["reason"] == "no answer came in time"
    assert fine == {"accounts": ["account-2"], "stopped": None, "models": {}}


async def test_accounts_of_merged_ledgers_are_of_one_project() -> None:
    store = CountedStore()
    await merge_ledgers(store, "a", "c", 60_000)
    projects = await projects_of(store, pool("a", "b", "c"))
    assert [project["accounts"] for project in projects] == [["account-0", "account-2"], ["account-1"]]


async def test_of_many_projects_a_bounded_number_is_read() -> None:
    store = CountedStore()
    found = await projects_of(store, pool(*(f"project-{n}" for n in range(50))))
    assert (len(found), store.reads) == (MAX_PROJECTS, MAX_PROJECTS)


async def test_accounts_are_counted_by_state() -> None:
    """A model's spent day leaves the account's other models alone; a rejected key serves nothing."""
    store, now_ms = CountedStore(), 4_000_000_000_000
    spent = ModelState(circuit=Circuit("day", open_until_ms=now_ms))
    for project in ("one", "two", "three"):
        await store.fill(project, pack(State(60_000, now_ms, {}, {"m": spent, "n": ModelState(days={1: 1})})))
    accounts = pool("one", "two", "three", "fresh", "later")
    await store.fill("later", b"GL\x09abc")
    accounts.disable(accounts.server[2], "key_invalid", "API key not valid.")
    found = (await health(store, accounts).report())["accounts"]
    assert found["states"] == {"AVAILABLE": 3, "FAILED_INIT": 1, "UNKNOWN": 1}
    assert found["models"] == {"m": {"FULLY_EXHAUSTED": 2}}


class Records(NamedTuple):
    records: tuple[AccountRecord, ...]

    def ledger_of(self, record: AccountRecord) -> str | None:
        return record.ledger_id


RECORDS = Records(
    (
        AccountRecord("a-off", "api_key", "1.x.y", enabled=False),
        AccountRecord("a-failed", "api_key", "1.x.y", project="two", out=OutReason("key_invalid", "No.", 7)),
        AccountRecord("a-resting", "api_key", "1.x.y", project="two"),
        AccountRecord("a-fine", "api_key", "1.x.y", project="three"),
    )
)
RESTS = {"KEY_COOLDOWN_SECONDS": "30", "GEMINI_API_KEY": "a-key-of-the-server", "GEMINI_API_KEY_PROJECT": "one"}


async def resting(now_ms: int) -> CountedStore:
    """A store in which `a-resting` rests, and `one` has spent its day for a model."""
    store = CountedStore()
    lease = InstanceLease(slots=1, reuse_ms=now_ms + 9_000, ends_ms=(now_ms + 9_000,))
    await store.fill("cool-a-resting", pack(State(60_000, now_ms, {"i": lease})))
    spent = ModelState(circuit=Circuit("day", open_until_ms=now_ms + 60_000))
    await store.fill("one", pack(State(60_000, now_ms, {}, {"m": spent})))
    store.reads = store.probes = 0
    return store


async def now_ms_of(store: CountedStore) -> int:
    return int((await store.read("n/a")).sample.server_ms)


async def test_states_are_those_of_the_accounts_command() -> None:
    """Also in a process that has not seen the rejections; with one more read, of all cooldowns."""
    store = await resting(await now_ms_of(CountedStore()))
    settings = Settings.from_environment({"LEDGER_URL": "memory://", **RESTS})
    serving = Pool(environment_accounts(settings), caller_limits=TEN, caller_concurrency=5)
    report = await Health(settings, store, serving, stored=RECORDS).report()
    Answer.model_validate(report)
    assert (store.probes, store.reads) == (2, 3), "the probe and the cooldowns; three projects"
    rows = await state_rows(settings, RECORDS.records, DataKeys([]), store)
    found = report["accounts"]
    assert found["states"] == Counter(row.state for row in rows if row.model is None)
    assert found["models"] == {row.model: {row.state: 1} for row in rows if row.model is not None}
    assert found["states"] == {"AVAILABLE": 2, "DISABLED": 1, "FAILED_INIT": 1, "COOLDOWN": 1}
    assert found["models"] == {"m": {"FULLY_EXHAUSTED": 1}}
    assert found["configured"] == 5
    assert not any(record.id in str(found) for record in RECORDS.records)


async def test_what_is_not_read_is_not_available() -> None:
    """Neither an account of an unknown project, nor one whose cooldown cannot be read."""
    store = await resting(await now_ms_of(CountedStore()))
    await store.fill("cool-a-fine", b"GL\x09abc")
    unknown = AccountRecord("a-unknown", "api_key", "1.x.y")
    stored = Records((*RECORDS.records, unknown))
    settings = Settings.from_environment({"LEDGER_URL": "memory://", **RESTS})
    states = (await Health(settings, store, pool(), stored=stored).report())["accounts"]["states"]
    assert states == {"DISABLED": 1, "FAILED_INIT": 1, "COOLDOWN": 1, "UNKNOWN": 2}


async def test_cooldowns_are_read_in_one_round_trip() -> None:
    store = CountedStore()
    many = [Account(f"account-{n}", "one", Secret(f"key-{n}"), 5, TEN) for n in range(150)]
    reports = health(store, Pool(many, caller_limits=TEN, caller_concurrency=5), **RESTS)
    found = (await reports.report())["accounts"]["states"]
    assert (store.probes, store.reads) == (2, 1)
    assert found == {"AVAILABLE": 100, "UNKNOWN": 50}


async def test_without_a_ledger_the_states_are_unknown() -> None:
    store = CountedStore()
    store.full = True
    report = await health(store, pool("one", "two")).report()
    Answer.model_validate(report)
    assert report["accounts"]["states"] == {"UNKNOWN": 2}


async def test_no_projects_without_a_ledger() -> None:
    store = CountedStore()
    store.full = True
    report = await health(store, pool("one")).report()
    assert report["status"] == "degraded"
    assert "projects" not in report["ledger"]
    assert store.reads == 0


async def test_keys_of_one_project_are_named_with_what_to_set() -> None:
    accounts = pool("one", "two", "three")
    for account in accounts.server[:2]:
        accounts.learn_consumer(account, "411082643095")
    report = await health(CountedStore(), accounts).report()
    Answer.model_validate(report)
    (found,) = report["accounts"]["same_project"]
    assert found["accounts"] == ["account-0", "account-1"]
    assert found["message"].endswith("Set ACCOUNT_0_PROJECT and ACCOUNT_1_PROJECT to the same value.")
    assert "411082643095" not in str(report)


async def test_a_flood_reads_the_ledger_once_in_five_seconds() -> None:
    """Anybody may ask, and a database may charge for reads."""
    store, now_s = CountedStore(), [100.0]
    reports = health(store, pool("one", "two"), lambda: now_s[0])
    for _ in range(2):
        await asyncio.gather(*(reports.report() for _ in range(50)))
    assert (store.probes, store.reads) == (1, 2)
    now_s[0] += CACHE_S
    await reports.report()
    assert (store.probes, store.reads) == (2, 4)


async def test_disconnect_does_not_stop_other_callers() -> None:
    store = CountedStore()
    reports = health(store, pool("one"))
    first = asyncio.create_task(reports.report())
    second = asyncio.create_task(reports.report())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)["status"] == "healthy"


async def test_a_reason_names_no_path() -> None:
    store = CountedStore()
    store.full = True
    report = await health(store, pool("one")).report()
    assert report["ledger"]["reason"] == "The store's file cannot be used: the disk is full."
    Answer.model_validate(report)


async def test_a_full_disk_is_not_healthy(tmp_path: Path) -> None:
    """Reading still works then, and every generation answers 503. A limit on the size of files stands for the disk."""
    store = SqliteStore(tmp_path / "ledger.db")
    assert (await health(store, pool("one")).report())["status"] == "healthy"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        full = await health(store, pool("one")).report()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full["status"] == "degraded"
    assert "the disk failed, or is full" in full["ledger"]["reason"]
    assert str(tmp_path) not in str(full)
    assert (await health(store, pool("one")).report())["status"] == "healthy"
    await store.aclose()


async def test_keyless_function_reports_configured_projects() -> None:
    store = CountedStore()
    now_ms = 4_000_000_000_000
    refused = ModelState(circuit=Circuit(open_until_ms=now_ms + 9_000))
    await store.fill("quota-project-1", pack(State(60_000, now_ms, {}, {"m": refused})))
    given = "GEMINI_API_KEY_1=quota-project-1,GEMINI_API_KEY_2=GEMINI_API_KEY_2,GEMINI_API_KEY_3=quota-project-1"
    report = await health(store, pool(), GEMINI_PROJECTS=given).report()
    Answer.model_validate(report)
    assert report["accounts"]["configured"] == 3
    first, second = report["ledger"]["projects"]
    assert (first["accounts"], list(first["models"])) == (["gemini-api-key-1", "gemini-api-key-3"], ["m"])
    assert second == {"accounts": ["gemini-api-key-2"], "stopped": None, "models": {}}
    assert "quota-project-1" not in str(report)
