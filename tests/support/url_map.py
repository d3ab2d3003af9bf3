"""Where a load balancer's URL map routes a request, by cloud.google.com/load-balancing/docs/url-map-concepts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Resources(Protocol):
    def of(self, kind: str, name: str | None = None) -> dict[str, dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """A request. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


class Edge:
    def __init__(self, url_map: Mapping[str, Any], resources: Resources) -> None:
        (matcher,) = url_map["path_matcher"]
        self._rules = sorted(matcher["route_rules"], key=lambda rule: rule["priority"])
        self._default: str = matcher["default_service"]
        groups = {
            one["id"]: name
            for name, one in resources.of("google_compute_region_network_endpoint_group", "function").items()
        }
        self._functions = {
            service["id"]: groups[service["backend"][0]["group"]]
            for service in resources.of("google_compute_backend_service").values()
        }
        priorities = [rule["priority"] for rule in self._rules]
        assert len(set(priorities)) == len(priorities), "two rules have one priority"

    def function(self, asked: RoutedRequest) -> str:
        """The function of the first rule with a complete match."""
        for rule in self._rules:
            if any(_matches(match, asked) for match in rule["match_rules"]):
                return self._functions[rule["service"]]
        return self._functions[self._default]


def _matches(match: Mapping[str, Any], asked: RoutedRequest) -> bool:
    full, prefix = match["full_path_match"], match["prefix_match"]
    headers = {":method": asked.method, **asked.headers}
    return (
        (asked.path == full if full else asked.path.startswith(prefix))
        and all(_has(headers, one["header_name"], one) for one in match["header_matches"])
        and all(_has(asked.query, one["name"], one) for one in match["query_parameter_matches"])
    )


def _has(given: Mapping[str, str], name: str, wanted: Mapping[str, Any]) -> bool:
    if wanted["present_match"]:
        return name in given
    return bool(given.get(name) == wanted["exact_match"])
