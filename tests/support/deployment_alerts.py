"""The problems of what an operator sees of a planned deployment: alerts, labels, logs. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tests.support.planned import Deployment

ALERTS = (
    *(
        f'alert["{name}"]'
        for name in ("failures", "ledger_unavailable", "outside_consumer", "platform_failures", "waiting")
    ),
    "critical",
    'down["health"]',
)
GOOGLES_METRICS = {"run.googleapis.com/request_count", "monitoring.googleapis.com/uptime_check/check_passed"}
"""Metrics that exist without the deployment."""
SECRET_PATHS = (
    "/v1/models?key=AIza",
    "/v1/models?pageSize=5&key=AIza",
    "/stream?ticket=t1",
    "/stream?session_id=s1",
    "/sessions/s1",
    "/upload/u1/complete",
    "/stream/t1",
)
OTHER_PATHS = (
    "/chat",
    "/sessions",
    "/upload",
    "/images?limit=5",
    "/v1beta/models?pageToken=monkey=",
    "/api/sessions/x",
)
"""Paths whose request logs stay: they hold neither a credential nor a capability."""


def _alerts(it: Deployment) -> Iterator[str]:
    metrics = {f"logging.googleapis.com/user/{one['name']}" for one in it.of("google_logging_metric").values()}
    policies = it.of("google_monitoring_alert_policy")
    names = {f"google_monitoring_alert_policy.{name}" for name in ALERTS}
    if not names <= policies.keys():
        yield f"alerts: {sorted(names - policies.keys())} is missing"
    for address, policy in policies.items():
        name = address.removeprefix("google_monitoring_alert_policy.")
        condition = policy["conditions"][0]
        (watching,) = condition["condition_threshold"] or condition["condition_matched_log"]
        watched = set(re.findall(r'metric\.type = "([^"]+)"', watching["filter"]))
        if not watched <= metrics | GOOGLES_METRICS or not (watched or condition["condition_matched_log"]):
            yield f"alerts: {name} watches {sorted(watched)}, which is not counted"
        if not policy["notification_channels"]:
            yield f"alerts: {name} notifies nobody"
        if not re.search(r"\*\*What to do:\*\* .{40}", policy["documentation"][0]["content"]):
            yield f"alerts: {name} does not say what to do"


def _labels(it: Deployment) -> Iterator[str]:
    for resource in it.resources:
        values = resource["values"]
        names = [name for name in ("user_labels", "labels") if name in values]
        if names and "application" not in (values[names[0]] or {}):
            yield f"labels: {resource['address']} has no label application"


def _request_logs(it: Deployment) -> Iterator[str]:
    """The platform's request logs keep whole URLs, except those that an exclusion drops."""
    filters = [one["filter"] for one in it.of("google_logging_project_exclusion").values()]
    patterns = [found[1] for one in filters if (found := re.search(r'httpRequest\.requestUrl =~ "([^"]+)"', one))]
    for path in SECRET_PATHS:
        if not any(re.search(pattern, f"https://gateway.example.com{path}") for pattern in patterns):
            yield f"request logs: {path} is kept"
    for path in OTHER_PATHS:
        if any(re.search(pattern, f"https://gateway.example.com{path}") for pattern in patterns):
            yield f"request logs: {path} is dropped"


SEEN_RULES: Sequence[Callable[[Deployment], Iterator[str]]] = (_alerts, _labels, _request_logs)
