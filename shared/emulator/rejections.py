"""The 429s of the emulator's quotas, and the rejections of injected faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import error_faults, errors
from .config import Project
from .errors import Exceeded, GoogleError
from .faults import Fault
from .limits import next_midnight_s

FAILURES: dict[str, Callable[[], GoogleError]] = {
    "500": errors.internal,
    "503": errors.overloaded,
    "504": errors.deadline_expired,
}
_DIMENSIONS = {"429": "rpm", "429-day": "rpd", "429-tokens": "tpm", "429-images": "ipm"}
# The exceeded limit of a fault where none is configured: the free tier of the flash models.
_ASSUMED = {"rpm": 5, "rpd": 20, "tpm": 250_000, "ipm": 10}
_REAL_MINUTE_S = 60.0
# Statistics count injected faults apart from rejections by the limits.
_ORDERED = "fault"


def over_quota(
    project: Project, model: str, exceeded: Sequence[Exceeded], *, window_s: float, wall_s: float
) -> GoogleError:
    """The 429 for exceeded quotas. On the free tier even a daily quota names a wait of 14 to 59 seconds."""
    if project.tier == "free":
        short_s = 14 + wall_s % 45
        exceeded = [
            Exceeded("rpd", one.limit, min(one.wait_s, short_s)) if one.dimension == "rpd" else one for one in exceeded
        ]
    # In a shortened minute there are waits that whole seconds cannot express.
    return errors.quota_exceeded(project.tier, model, exceeded, whole_seconds=window_s >= _REAL_MINUTE_S)


def fails(fault: Fault) -> bool:
    """Whether a fault is an error that Gemini returns after it admitted the request."""
    return fault.kind in FAILURES or fault.kind in error_faults.FAILURES


def failure(fault: Fault) -> GoogleError:
    error = FAILURES[fault.kind]() if fault.kind in FAILURES else error_faults.failure(fault.kind, fault.seconds)
    error.reason = _ORDERED
    return error


def by_fault(
    fault: Fault,
    *,
    project: Project,
    project_name: str,
    model: str,
    asked_model: str,
    version: str,
    method: str,
    window_s: float,
    wall_s: float,
) -> GoogleError:
    """The rejection for a fault in faults.REJECTIONS. A 429 names the wait of the fault, else half a window or midnight."""
    simple: dict[str, Callable[[], GoogleError]] = {
        "400": errors.invalid,
        "401": lambda: errors.unauthenticated(version, method),
        "403": lambda: errors.key_blocked(version, method),
        "404": lambda: errors.model_not_found(version, asked_model, method),
        "429-bare": errors.exhausted,
        "429-depleted": errors.depleted,
    }
    if fault.kind in error_faults.REJECTIONS:
        rpm = project.limits_for(model).rpm
        error = error_faults.rejection(
            fault.kind,
            error_faults.Context(
                model=model,
                tier=project.tier,
                limit=_ASSUMED["rpm"] if rpm is None else rpm,
                consumer=error_faults.project_number(project_name),
                wait_s=window_s / 2 if fault.seconds is None else fault.seconds,
                wall_s=wall_s,
            ),
        )
    elif fault.kind in simple:
        error = simple[fault.kind]()
    else:
        error = _quota_rejection(fault, project, model, window_s, wall_s)
    error.reason = _ORDERED
    return error


def _quota_rejection(fault: Fault, project: Project, model: str, window_s: float, wall_s: float) -> GoogleError:
    dimension = _DIMENSIONS[fault.kind]
    limits = project.limits_for(model)
    limit = {"rpm": limits.rpm, "rpd": limits.rpd, "tpm": limits.tpm, "ipm": limits.ipm}[dimension]
    limit = _ASSUMED[dimension] if limit is None else limit
    if fault.seconds is not None:
        told = [Exceeded(dimension, limit, fault.seconds)]
        return errors.quota_exceeded(project.tier, model, told, whole_seconds=fault.seconds.is_integer())
    wait_s = next_midnight_s(wall_s) - wall_s if dimension == "rpd" else window_s / 2
    return over_quota(project, model, [Exceeded(dimension, limit, wait_s)], window_s=window_s, wall_s=wall_s)
