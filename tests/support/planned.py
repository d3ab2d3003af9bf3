"""A plan of the deployment, by resource. Pure: a plan (`terraform show -json`) is the argument."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.http.manifest import Manifest

Values = dict[str, Any]

GEMINI_KEY, DATA_KEY = "GEMINI_API_KEY", "ACCOUNTS_DATA_KEY"


class Deployment:
    """A plan's resources by type and name, as planned."""

    def __init__(self, plan: Mapping[str, Any], manifests: Sequence[Manifest]) -> None:
        self.manifests = {manifest.name: manifest for manifest in manifests}
        self.project: str = plan["variables"]["project_id"]["value"]
        self.key_projects: dict[str, str | None] = plan["variables"]["gemini_api_keys"]["value"]
        self.keys = set(self.key_projects)
        self.cloud_build: Values | None = plan["variables"]["cloud_build"]["value"]
        self.secret_settings = set(plan["variables"]["secret_settings"]["value"])
        self.signed_images = plan["variables"]["settings"]["value"].get("IMAGE_URLS") == "signed"
        self.base_url = f"https://{plan['variables']['domain']['value']}"
        self.protected: bool = plan["variables"]["deletion_protection"]["value"]
        self.providers = {one["full_name"] for one in plan["configuration"]["provider_config"].values()}
        self.outputs = {name: one.get("value") for name, one in plan["planned_values"]["outputs"].items()}
        self.resources: list[Values] = plan["planned_values"]["root_module"]["resources"]
        self._configured = {one["address"]: one for one in plan["configuration"]["root_module"]["resources"]}

    def of(self, kind: str, name: str | None = None) -> dict[str, Values]:
        """Index -> values of one resource; address -> values of a whole kind."""
        return {
            str(one["address"] if name is None else one.get("index", name)): one["values"]
            for one in self.resources
            if one["type"] == kind and name in (None, one["name"])
        }

    def only(self, kind: str, name: str) -> Values:
        (values,) = self.of(kind, name).values()
        return values

    def depends_on(self, address: str) -> set[str]:
        return set(self._configured[address].get("depends_on", ()))

    def waits_for(self, address: str) -> set[str]:
        """Everything that is created before this resource, by references and `depends_on`. Locals are not followed."""
        found: set[str] = set()
        to_visit = [address]
        while to_visit:
            for earlier in self._named_by(to_visit.pop()) - found:
                found.add(earlier)
                to_visit.append(earlier)
        return found

    def _named_by(self, address: str) -> set[str]:
        """Addresses of resources that the configuration of this one names."""
        configured = self._configured[address]
        named = [*self.depends_on(address), *_references(configured.get("expressions", {}))]
        named += _references(configured.get("for_each_expression", {}))
        return {
            found[0] for one in named if (found := re.match(r"[a-z]\w*\.\w+", one)) and found[0] in self._configured
        }

    @property
    def functions(self) -> dict[str, Values]:
        return self.of("google_cloudfunctions2_function", "function")

    def secrets_of(self, manifest: Manifest) -> set[str]:
        """The secrets of a function, with one name for the pool of the server's keys."""
        others = {name for name in manifest.secrets if name != GEMINI_KEY}
        if GEMINI_KEY in manifest.secrets:
            return others | self.secret_settings | self.keys
        return others | (self.secret_settings - {DATA_KEY})


def _references(expressions: object) -> Iterator[str]:
    if isinstance(expressions, Mapping):
        yield from expressions.get("references", ())
        for inner in expressions.values():
            yield from _references(inner)
    elif isinstance(expressions, list):
        for inner in expressions:
            yield from _references(inner)
