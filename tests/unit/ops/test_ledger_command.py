"""`python -m shared.ledger`: what an operator is shown, and what is cleared."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shared.generation import Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import (
    Circuit,
    ExternalUsage,
    InstanceLease,
    InstanceShare,
    Lowered,
    ModelState,
    SlotRange,
    State,
)
from shared.ops.ledger_command import main
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Change, Put, Store
from shared.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]
GRID = Grid.of(60)
KEY = "AQ.a-key-that-nobody-may-see-1234567890"
OWN = "u-0123456789abcdef0123456789abcdef"
MODEL = "gemini-3.8-flash"


def state_at(now_ms: int) -> State:
    slot = GRID.slot(now_ms)
    state = State(60_000, now_ms)
    lease = InstanceLease(
        seen_ms=now_ms, slots=4, cap=4, authority_ms=now_ms + 10_000, reuse_ms=now_ms + 99_000, concurrency=15
    )
    lease.shares[MODEL] = InstanceShare(Limits(requests=300), {SlotRange(slot, slot + 20): Cost(7, 70)})
    state.leases["f" * 32] = lease
    state.sections[MODEL] = ModelState(
        ring={slot - 4: Cost(20, 2_000)}, days={pacific_day(now_ms).ordinal: 55},
        circuit=Circuit("zero", "Google says no.", now_ms + 30_000, 30_000, now_ms, "f" * 32, MODEL, now_ms + 40_000),
        lowered={0: Lowered(250, "limit: 250", 600_000, now_ms + 600_000)},
        outside={0: ExternalUsage(18, now_ms - 60_000, now_ms)}, debt_tokens=17,
    )  # fmt: skip
    state.sections["other"] = ModelState(
        ring={slot: Cost(1, 10)}, days={}, circuit=Circuit(open_until_ms=now_ms + 5_000)
    )
    return state


async def fill(store: Store) -> None:
    def step(_: object, now_ms: int) -> Change[None]:
        blob = pack(state_at(now_ms))
        return Change(None, {f"ledger/{name}": Put(blob) for name in ("my-project", OWN)})

    await store.transact(["ledger/my-project", f"ledger/{OWN}"], step)
    await store.aclose()


class Ledger:
    """The command on a filled ledger. `run` gives exit status and what was printed."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str], shelf: Shelf | None = None) -> None:
        self.shelf, self.capsys = shelf, capsys
        self.env = {"LEDGER_URL": url, "GEMINI_API_KEY": KEY, "GEMINI_API_KEY_PROJECT": "my-project"}

    def store(self) -> Store:
        if self.shelf is not None:
            return MemoryStore(self.shelf)
        return SqliteStore(self.env["LEDGER_URL"].removeprefix("sqlite:///"))

    def run(self, *arguments: str) -> tuple[int, str]:
        status = main(arguments, self.env, None if self.shelf is None else self.store())
        printed = self.capsys.readouterr()
        assert KEY not in printed.out + printed.err
        return status, printed.out + printed.err

    def state(self, name: str = "my-project") -> State | None:
        async def read() -> bytes | None:
            store = self.store()
            value = (await store.read(f"ledger/{name}")).value
            await store.aclose()
            return value

        blob = asyncio.run(read())
        return None if blob is None else unpack(blob)

    @property
    def section(self) -> ModelState:
        state = self.state()
        assert state is not None
        return state.sections[MODEL]


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Ledger]:
    if request.param == "sqlite":
        made = Ledger(f"sqlite:///{tmp_path}/ledger.db", capsys)
    else:
        made = Ledger(f"sqlite:///{tmp_path}/not-used.db", capsys, Shelf())
    asyncio.run(fill(made.store()))
    yield made


class TestShow:
    def test_show_lists_usage_bookings_slots_and_stops(self, ledger: Ledger) -> None:
        status, text = ledger.run("show")
        assert status == 0
        for words in (
            "project my-project",
            "slots     4 of 15 held: ffffffff 4",
            "requests: 20 used, 7 booked, limit 250",
            ": 55 of 1000 requests",
            "stopped (zero), until 20",
            ": Google says no.",
            "Gemini named a limit of 250 requests: 250 used, tested again at 20",
            "somebody else seems to use the quota since 20",
            "at most 18 requests are used",
            "17 input tokens more than reserved",
        ):
            assert words in text

    def test_json_has_the_same_content(self, ledger: Ledger) -> None:
        status, text = ledger.run("show", "my-project", "--json")
        found = orjson.loads(text)["projects"]["my-project"]
        assert status == 0
        assert found["slots"] == {"held": 4, "limit": 15, "by": {"ffffffff": 4}}
        about = found["models"][MODEL]
        assert about["window"]["requests"] == {"used": 20, "booked": 7, "limit": 250}
        assert about["outside_consumer"]["requests"]["usable"] == 18
        assert found["document"]["bytes"] > 100
        assert found["document"]["age_s"] < 60

    def test_caller_key_ledgers_are_only_counted_by_default(self, ledger: Ledger) -> None:
        assert OWN not in ledger.run("show")[1]
        assert "1 ledger of callers' own keys" in ledger.run("show")[1]
        assert f"project {OWN}" in ledger.run("show", "--own-keys")[1]

    def test_unknown_project_error_lists_projects(self, ledger: Ledger) -> None:
        status, text = ledger.run("show", "nowhere")
        assert (status, "it has my-project." in text) == (1, True)
        assert OWN not in text

    def test_later_version_is_reported_and_not_reset(self, ledger: Ledger) -> None:
        async def overwrite() -> None:
            store = ledger.store()
            await store.transact(["ledger/new"], lambda *_: Change(None, {"ledger/new": Put(b"GL\x09abc")}))
            await store.aclose()

        asyncio.run(overwrite())
        assert (
            "6 bytes: the ledger's document was written by another program or by another version"
            in ledger.run("show")[1]
        )
        assert ledger.run("reset", "new")[0] == 1


class TestReset:
    def test_reset_clears_learned_limits_and_keeps_counts(self, ledger: Ledger) -> None:
        before = ledger.section
        assert ledger.run("reset", "my-project") == (0, f"project my-project: cleared: {MODEL}, other\n")
        after = ledger.section
        assert (after.ring, after.days, after.debt_tokens) == (before.ring, before.days, before.debt_tokens)
        assert (after.circuit, after.outside, after.lowered) == (Circuit(), {}, {})

    def test_of_one_model_or_of_cool_downs_only(self, ledger: Ledger) -> None:
        ledger.run("reset", "my-project", "--model", "other")
        assert ledger.section.circuit.open_until_ms > 0
        ledger.run("reset", "my-project", "--model", MODEL, "--cool-only")
        assert (ledger.section.circuit, ledger.section.lowered[0].limit) == (Circuit(), 250)
        assert ledger.section.outside

    def test_reset_all_needs_a_confirmation(self, ledger: Ledger) -> None:
        status, text = ledger.run("reset", "my-project", "--all")
        assert (status, "in the current minute" in text) == (1, True)
        assert ledger.state() is not None
        assert ledger.run("reset", "my-project", "--all", "--yes") == (0, "project my-project: deleted\n")
        assert ledger.state() is None

    def test_reset_of_an_unknown_project_fails(self, ledger: Ledger) -> None:
        assert ledger.run("reset", "nowhere") == (1, "The ledger has no project 'nowhere'.\n")

    def test_all_and_cool_downs_only_contradict_each_other(self, ledger: Ledger) -> None:
        assert ledger.run("reset", "my-project", "--all", "--cool-only", "--yes")[0] == 1
        assert ledger.state() is not None


def test_a_ledger_in_memory_cannot_be_looked_at_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"], {"LEDGER_URL": "memory://"}) == 1
    assert "inside the serving process" in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    asyncio.run(fill(SqliteStore(url.removeprefix("sqlite:///"))))
    shown = subprocess.run(
        [sys.executable, "-m", "shared.ledger", "show", "--json"],
        cwd=ROOT, env={"LEDGER_URL": url, "PATH": ""}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")
    assert list(orjson.loads(shown.stdout)["projects"]) == ["my-project"]
