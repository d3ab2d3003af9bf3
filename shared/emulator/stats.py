"""What the offline Gemini saw: counts, maxima and arrival times, per project, model and key."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .config import EmulatorConfig
from .errors import Exceeded
from .limits import ModelQuota, SlidingWindow

# Maximum of keys, and of projects without configuration, with a record of their own; the rest share one.
_MAX_NAMES = 10_000
_OTHERS = "(others)"


def label(key: str) -> str:
    """How a key is shown in statistics: unchanged, unless it looks like a real key."""
    if key.startswith(("AIza", "AQ.")):
        return f"{key[:4]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return key


class _Arrivals:
    """The newest `kept` admitted requests (up to a tenth more), in the order of decision."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self.at_s = array("d")
        self.tokens = array("q")

    def add(self, at_s: float, tokens: int) -> None:
        self.at_s.append(at_s)
        self.tokens.append(tokens)
        if len(self.at_s) > self._kept * 1.1:
            surplus = len(self.at_s) - self._kept
            del self.at_s[:surplus]
            del self.tokens[:surplus]


class _ModelRecord:
    def __init__(self, config: EmulatorConfig) -> None:
        self.quota = ModelQuota(config.window_s)
        self.arrivals = _Arrivals(config.arrivals_kept)
        self.admitted = self.tokens = 0
        self.refused: Counter[str] = Counter()


class ProjectRecord:
    """One Google project: its requests open now, and its models."""

    def __init__(self, name: str, config: EmulatorConfig) -> None:
        self.name = name
        self.settings = config.project(name)
        self.open = self.max_open = 0
        self._config = config
        self.models: dict[str, _ModelRecord] = {}
        self.forget_batches()

    def forget_batches(self) -> None:
        self._batches = SlidingWindow(self._config.window_s)
        self.batches = self.max_batches = self.batches_refused = 0

    def take_slot(self) -> bool:
        """Take a concurrency slot if the project has one left."""
        if self.settings.concurrency is not None and self.open >= self.settings.concurrency:
            return False
        self.open += 1
        self.max_open = max(self.max_open, self.open)
        return True

    def free_slot(self) -> None:
        self.open -= 1

    def admit_batch(self, model: str, at_s: float, tokens: int, wall_s: float, requests: int) -> list[Exceeded]:
        """As `admit`, for a batch of embeddings. The quota of batches is the project's."""
        limit, window = self.settings.batches, self._batches
        count, _ = window.peak_with(at_s, 1)
        if limit is not None and count > limit:
            self.batches_refused += 1
            return [Exceeded("batches", limit, window.wait_for_count_s(at_s, limit) if limit else window.length_s)]
        exceeded = self.admit(model, at_s, tokens, wall_s, requests=requests)
        if not exceeded:
            window.add(at_s, 1)
            self.batches += 1
            self.max_batches = max(self.max_batches, count)
        return exceeded

    def admit(
        self, model: str, at_s: float, tokens: int, wall_s: float, images: int = 0, requests: int = 1
    ) -> list[Exceeded]:
        """The exceeded quotas; empty if the request was admitted."""
        record = self.models.get(model)
        if record is None:
            record = self.models[model] = _ModelRecord(self._config)
        exceeded = record.quota.admit(at_s, tokens, self.settings.limits_for(model), wall_s, images, requests)
        if exceeded:
            record.refused[exceeded[0].dimension] += 1
        else:
            record.admitted += requests
            record.tokens += tokens
            record.arrivals.add(at_s, tokens)
            for _ in range(requests - 1):
                record.arrivals.add(at_s, 0)
        return exceeded


class _KeyRecord:
    __slots__ = ("admitted", "answered", "requests")

    def __init__(self) -> None:
        self.requests = self.admitted = 0
        self.answered: Counter[str] = Counter()


class Stats:
    """Counts every request to the Gemini API (not to /stats or /emulator). Bounded by the keys and models seen."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self.cancels = config.cancels
        self._projects: dict[str, ProjectRecord] = {}
        self._clear()

    def _clear(self) -> None:
        self._requests = self.disconnects = 0
        self._by_method: Counter[str] = Counter()
        self._by_model: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._keys: dict[str, _KeyRecord] = {}
        self._issued: Counter[str] = Counter()
        self._no_token: Counter[str] = Counter()

    def reset(self, *, limits: bool = False) -> None:
        """Forgets counts, maxima and arrivals. Windows and days go on counting, unless `limits`."""
        self._clear()
        for project in self._projects.values():
            project.max_open = project.open
            project.batches = project.max_batches = project.batches_refused = 0
            if limits:
                project.models.clear()
                project.forget_batches()
            for record in project.models.values():
                record.quota.forget_maxima()
                record.arrivals = _Arrivals(self._config.arrivals_kept)
                record.admitted = record.tokens = 0
                record.refused.clear()

    def project_of(self, key: str) -> ProjectRecord:
        return self.project(self._config.keys.get(key) or label(key))

    def project(self, name: str) -> ProjectRecord:
        if name not in self._projects and len(self._projects) >= _MAX_NAMES:
            name = _OTHERS
        record = self._projects.get(name)
        if record is None:
            record = self._projects[name] = ProjectRecord(name, self._config)
        return record

    def token_issued(self, account: str) -> None:
        self._issued[account] += 1

    def token_refused(self, code: str) -> None:
        self._no_token[code] += 1

    def arrived(self, method: str, model: str, key: str) -> None:
        self._requests += 1
        self._by_method[method] += 1
        if model:
            self._by_model[model] += 1
        if key:
            self._key(key).requests += 1

    def admitted(self, key: str) -> None:
        self._key(key).admitted += 1

    def refused(self, reason: str) -> None:
        self._refused[reason] += 1

    def fault(self, kind: str) -> None:
        self._faults[kind] += 1

    def answered(self, outcome: str, key: str) -> None:
        """`outcome` is the status, or `aborted` (by a fault) or `disconnected` (by the client)."""
        self._answered[outcome] += 1
        if key:
            self._key(key).answered[outcome] += 1

    def used(self, prompt: int, candidates: int, thoughts: int) -> None:
        self._tokens["prompt"] += prompt
        self._tokens["candidates"] += candidates
        self._tokens["thoughts"] += thoughts

    def _key(self, key: str) -> _KeyRecord:
        name = label(key)
        if name not in self._keys and len(self._keys) >= _MAX_NAMES:
            name = _OTHERS
        record = self._keys.get(name)
        if record is None:
            record = self._keys[name] = _KeyRecord()
        return record

    def snapshot(self, *, arrivals: bool = False) -> dict[str, Any]:
        return {
            "requests": self._requests,
            "by_method": dict(self._by_method),
            "by_model": dict(self._by_model),
            "answered": dict(self._answered),
            "refused": dict(self._refused),
            "faults": dict(self._faults),
            "disconnects": self.disconnects,
            "open": sum(project.open for project in self._projects.values()),
            "tokens": {name: self._tokens[name] for name in ("prompt", "candidates", "thoughts")},
            "access_tokens": {"issued": dict(self._issued), "refused": dict(self._no_token)},
            "window_s": self._config.window_s,
            "projects": {name: _project(record, arrivals) for name, record in self._projects.items()},
            "keys": {
                name: {"requests": record.requests, "admitted": record.admitted, "answered": dict(record.answered)}
                for name, record in self._keys.items()
            },
        }


def _project(project: ProjectRecord, arrivals: bool) -> dict[str, Any]:
    batches = {
        "admitted": project.batches,
        "refused": project.batches_refused,
        "max_in_window": project.max_batches,
    }
    return {
        "open": project.open,
        "max_open": project.max_open,
        **({"batches": batches} if any(batches.values()) else {}),
        "models": {name: _model(record, arrivals) for name, record in project.models.items()},
    }


def _model(record: _ModelRecord, arrivals: bool) -> dict[str, Any]:
    quota = record.quota
    shown: dict[str, Any] = {
        "admitted": record.admitted,
        "tokens": record.tokens,
        "refused": dict(record.refused),
        "today": quota.day_count,
        "max_requests_in_window": quota.max_requests,
        "max_tokens_in_window": quota.max_tokens,
        "max_images_in_window": quota.max_images,
        "max_offered_requests_in_window": quota.max_offered_requests,
        "max_offered_tokens_in_window": quota.max_offered_tokens,
    }
    if arrivals:
        lists: dict[str, Sequence[float]] = {"at_s": record.arrivals.at_s, "tokens": record.arrivals.tokens}
        shown["arrivals"] = {name: list(values) for name, values in lists.items()}
    return shown
