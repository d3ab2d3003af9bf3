"""What a plan of the deployment says, and what is wrong with it. Pure: a plan (`terraform show -json`) is the argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.http.manifest import Manifest
from shared.stores.firestore_rpc import EXPIRY_FIELD, VALUE_FIELD
from tests.support.routes import example_path
from tests.support.url_map import Asked, Edge

Values = dict[str, Any]
GEMINI_KEY = "GEMINI_API_KEY"
WAITERS_AT_ONCE = range(80, 251)
INSTANCES = 100
BASIC_ROLES = {"roles/owner", "roles/editor", "roles/viewer"}
ROLES = {"read": "roles/storage.objectViewer", "write": "roles/storage.objectUser"}
PLANNER_ROLES = {"roles/viewer", "roles/iam.securityReviewer", "roles/logging.logWriter"}
"""What the account that plans has on the project: it reads, and writes its log."""
EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
WAITED_FOR = {
    "google_project_service.api",
    "google_secret_manager_secret_iam_member.accessor",
    "google_project_iam_member.ledger",
    "google_storage_bucket_iam_member.build_reads_source",
    "google_project_iam_member.build",
    "google_artifact_registry_repository_iam_member.build_writes_images",
}
"""What a function needs before it can be built and start; no reference of its own leads there."""


class Deployment:
    """A plan's resources by type and name, as they will be."""

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
        self._resources = plan["planned_values"]["root_module"]["resources"]
        self._configured = {one["address"]: one for one in plan["configuration"]["root_module"]["resources"]}

    def of(self, kind: str, name: str | None = None) -> dict[str, Values]:
        """Index -> values of one resource; address -> values of a whole kind."""
        return {
            str(one["address"] if name is None else one.get("index", name)): one["values"]
            for one in self._resources
            if one["type"] == kind and name in (None, one["name"])
        }

    def only(self, kind: str, name: str) -> Values:
        (values,) = self.of(kind, name).values()
        return values

    def depends_on(self, address: str) -> set[str]:
        return set(self._configured[address].get("depends_on", ()))

    @property
    def functions(self) -> dict[str, Values]:
        return self.of("google_cloudfunctions2_function", "function")

    def secrets_of(self, manifest: Manifest) -> set[str]:
        """One name stands for the pool of the server's keys."""
        others = {name for name in manifest.secrets if name != GEMINI_KEY}
        return others | self.secret_settings | (self.keys if GEMINI_KEY in manifest.secrets else set())


def problems(deployment: Deployment) -> list[str]:
    """A sentence for each; none for a deployment as it should be."""
    return [problem for rule in RULES for problem in rule(deployment)]


def _functions(it: Deployment) -> Iterator[str]:
    if it.functions.keys() != it.manifests.keys():
        yield f"functions: {sorted(it.functions.keys() ^ it.manifests.keys())} is in the folders or in the plan, not in both"
    if it.providers != {"registry.terraform.io/hashicorp/google"}:
        yield f"functions: providers are {sorted(it.providers)}"
    missing = WAITED_FOR - it.depends_on("google_cloudfunctions2_function.function")
    if missing:
        yield f"functions: they do not wait for {sorted(missing)}"
    for name, function in it.functions.items():
        build, source = function["build_config"][0], function["build_config"][0]["source"][0]["storage_source"][0]
        if build["entry_point"] != name or not re.fullmatch(r"bundle/[0-9a-f]{32}\.zip", source["object"]):
            yield f"functions: {name} is built from {build['entry_point']} of {source['object']}"


def _sizes(it: Deployment) -> Iterator[str]:
    total = sum(function["service_config"][0]["max_instance_count"] for function in it.functions.values())
    if total > INSTANCES:
        yield f"sizes: {total} instances, a region has {INSTANCES}"
    for name, manifest in it.manifests.items():
        service = it.functions[name]["service_config"][0] if name in it.functions else {}
        given = {
            "available_memory": f"{manifest.memory_mb}Mi",
            "available_cpu": f"{manifest.cpu:g}",
            "max_instance_request_concurrency": manifest.concurrency,
            "timeout_seconds": manifest.timeout_s,
        }
        for key, value in given.items():
            if service and service[key] != value:
                yield f"sizes: {name} has {key} {service[key]}, endpoint.json says {value}"
        waits = manifest.access != "public" and GEMINI_KEY in manifest.secrets and manifest.storage == "none"
        if waits and manifest.concurrency not in WAITERS_AT_ONCE:
            yield f"sizes: {name} waits on Gemini, but serves only {manifest.concurrency} at once"


def _environment(it: Deployment) -> Iterator[str]:
    database = it.only("google_firestore_database", "gateway")["name"]
    wanted = {
        "GOOGLE_CLOUD_PROJECT": it.project,
        "LEDGER_URL": f"firestore://{it.project}/{database}",
        "LOG_EXECUTION_ID": "false",
    }
    for name, function in it.functions.items():
        env = function["service_config"][0]["environment_variables"] or {}
        for key, value in wanted.items():
            if env.get(key) != value:
                yield f"environment: {name} has {key} = {env.get(key)!r}, not {value!r}"
        stores = name in it.manifests and it.manifests[name].storage != "none"
        for key, value in (_of_the_storage(it) if stores else {}).items():
            if env.get(key) != value:
                yield f"environment: {name} has {key} = {env.get(key)!r}, not {value!r}"
        public = name in it.manifests and it.manifests[name].access == "public"
        projects = ",".join(f"{key}={project or key}" for key, project in sorted(it.key_projects.items()))
        if env.get("GEMINI_PROJECTS") != (projects if public else None):
            yield f"environment: {name} has GEMINI_PROJECTS = {env.get('GEMINI_PROJECTS')!r}"
        plain = [key for key in env if re.search(r"(API_KEY(_\d+)?|TOKEN|PASSWORD)$", key)]
        if plain:
            yield f"environment: {name} has {plain} in plain sight"


def _of_the_storage(it: Deployment) -> dict[str, str]:
    """What the functions are told of images, which must be what the bucket does with them."""
    images = it.only("google_storage_bucket", "images")
    ages = [one["condition"][0]["age"] for one in images["lifecycle_rule"] if one["action"][0]["type"] == "Delete"]
    return {
        "STORAGE_URL": f"gs://{images['name']}",
        "IMAGE_TTL_DAYS": str(min(ages)) if ages else "unlimited",
        "PUBLIC_BASE_URL": it.base_url,
    }


def _secrets(it: Deployment) -> Iterator[str]:
    versions = it.of("google_secret_manager_secret_version")
    if any(version.get("secret_data") for version in versions.values()):
        yield "secrets: a value is in the state"
    readers: dict[str, set[str]] = {}
    for one in it.of("google_secret_manager_secret_iam_member").values():
        readers.setdefault(one["member"], set()).add(one["secret_id"].rpartition("/")[2])
    ids = {name: secret["secret_id"] for name, secret in it.of("google_secret_manager_secret", "secret").items()}
    for name, function in it.functions.items():
        service = function["service_config"][0]
        mounted = {one["key"]: one["secret"] for one in service["secret_environment_variables"]}
        wanted = it.secrets_of(it.manifests[name]) if name in it.manifests else set()
        if mounted != {key: ids.get(key) for key in wanted}:
            yield f"secrets: {name} has {sorted(mounted)}, endpoint.json says {sorted(wanted)}"
        if name in it.manifests and it.manifests[name].access == "public" and mounted.keys() & it.keys:
            yield f"secrets: anybody may call {name}, and it has {sorted(mounted.keys() & it.keys)}"
        readable = readers.pop(f"serviceAccount:{service['service_account_email']}", set())
        if readable != set(mounted.values()):
            yield f"secrets: {name} may read {sorted(readable)}, it has {sorted(mounted.values())}"
    if readers:
        yield f"secrets: {sorted(readers)} may read some as well"


def _accounts(it: Deployment) -> Iterator[str]:
    made = {account["email"] for account in it.of("google_service_account", "function").values()}
    used = [function["service_config"][0]["service_account_email"] for function in it.functions.values()]
    if len(set(used)) != len(used) or not set(used) <= made:
        yield f"accounts: functions run as {sorted(used)}"
    granted: dict[str, list[Values]] = {}
    for one in it.of("google_project_iam_member").values():
        granted.setdefault(one["member"], []).append(one)
        if one["role"] in BASIC_ROLES and (one["role"], one["member"]) != ("roles/viewer", _planner(it)):
            yield f"accounts: {one['member']} has {one['role']}"
        if one["member"] in EVERYBODY:
            yield f"accounts: everybody has {one['role']} on the project"
    database = f'resource.name == "{it.only("google_firestore_database", "gateway")["id"]}"'
    for name, function in it.functions.items():
        email = function["service_config"][0]["service_account_email"]
        public = name in it.manifests and it.manifests[name].access == "public"
        role = "roles/datastore.viewer" if public else "roles/datastore.user"
        has = [
            (one["role"], [c["expression"] for c in one["condition"]])
            for one in granted.get(f"serviceAccount:{email}", [])
        ]
        if has != [(role, [database])]:
            yield f"accounts: {name} has {has} on the project, not {role} on its database alone"


def _planner(it: Deployment) -> str | None:
    """The account of the trigger that runs for every push, with nobody's approval."""
    accounts = it.of("google_service_account", "plan")
    return f"serviceAccount:{accounts['plan']['email']}" if accounts else None


def _unapproved(it: Deployment) -> Iterator[str]:
    """What the account of an unapproved push may do. A push can run any code as it."""
    triggers = it.of("google_cloudbuild_trigger", "trigger")
    if it.cloud_build is None or not triggers:
        return
    planner, state = _planner(it), it.cloud_build["state_bucket"]
    for stage, trigger in triggers.items():
        email = trigger["service_account"].rpartition("/")[2]
        if not trigger["approval_config"][0]["approval_required"] and f"serviceAccount:{email}" != planner:
            yield f"unapproved: the trigger {stage} runs as {email}"
    for one in it.of("google_project_iam_member").values():
        if one["member"] == planner and one["role"] not in PLANNER_ROLES:
            yield f"unapproved: a push has {one['role']} on the project"
    for one in it.of("google_storage_bucket_iam_member").values():
        if one["member"] != planner or one["role"] == "roles/storage.objectViewer":
            continue
        conditions = [condition["expression"] for condition in one["condition"]]
        plans = f'resource.name.startsWith("projects/_/buckets/{state}/objects/plans/")'
        if (one["bucket"], one["role"], conditions) != (state, "roles/storage.objectCreator", [plans]):
            yield f"unapproved: a push has {one['role']} on {one['bucket']} {conditions}"
    for kind in ("google_service_account_iam_member", "google_secret_manager_secret_iam_member"):
        for address, one in it.of(kind).items():
            if one["member"] == planner:
                yield f"unapproved: a push has {one['role']} by {address}"


def _invokers(it: Deployment) -> Iterator[str]:
    services = {function["name"] for function in it.functions.values()}
    reached = {one["name"] for one in it.of("google_cloud_run_v2_service_iam_member").values()}
    if reached != services:
        yield f"invokers: nobody may call {sorted(services - reached)}"
    for one in it.of("google_cloud_run_v2_service_iam_member").values():
        if one["role"] != "roles/run.invoker":
            yield f"invokers: {one['member']} has {one['role']} on {one['name']}"


def _buckets(it: Deployment) -> Iterator[str]:
    for bucket in it.of("google_storage_bucket").values():
        if not bucket["uniform_bucket_level_access"] or bucket["public_access_prevention"] != "enforced":
            yield f"buckets: {bucket['name']} can be made public"
    images = it.only("google_storage_bucket", "images")
    if not images["lifecycle_rule"] or not images["soft_delete_policy"] or not images["cors"]:
        yield "buckets: the images' bucket has no lifecycle, soft delete or CORS"
    for one in it.of("google_storage_bucket_iam_member").values():
        if one["member"] in EVERYBODY:
            yield f"buckets: everybody has {one['role']} on {one['bucket']}"
    stores = it.of("google_storage_bucket_iam_member", "images")
    wanted = {name for name, manifest in it.manifests.items() if manifest.storage != "none"}
    if stores.keys() != wanted:
        yield f"buckets: {sorted(stores)} may use the images, endpoint.json says {sorted(wanted)}"
    for name in stores.keys() & wanted:
        role = ROLES[it.manifests[name].storage]
        if stores[name]["role"] != role:
            yield f"buckets: {name} has {stores[name]['role']} on the images, not {role}"
    serving = {name for name, manifest in it.manifests.items() if "/image/*" in manifest.paths}
    signing = set(it.of("google_service_account_iam_member", "signs_as_itself"))
    if signing != (serving if it.signed_images else set()):
        yield f"buckets: {sorted(signing)} may sign as themselves, {sorted(serving)} hands out signed addresses"


def _ledger(it: Deployment) -> Iterator[str]:
    database = it.only("google_firestore_database", "gateway")
    wanted = {
        "type": "FIRESTORE_NATIVE",
        "concurrency_mode": "OPTIMISTIC",
        "point_in_time_recovery_enablement": "POINT_IN_TIME_RECOVERY_ENABLED",
        "delete_protection_state": f"DELETE_PROTECTION_{'ENABLED' if it.protected else 'DISABLED'}",
        "deletion_policy": "PREVENT" if it.protected else "DELETE",
    }
    for key, value in wanted.items():
        if database[key] != value:
            yield f"ledger: {key} is {database[key]}, not {value}"
    fields = {
        (one["collection"], one["field"]): one
        for one in it.of("google_firestore_field").values()
        if one["database"] == database["name"]
    }
    for field in (VALUE_FIELD, EXPIRY_FIELD):
        one = fields.get(("ledger", field))
        if one is None or len(one["index_config"]) != 1 or one["index_config"][0]["indexes"]:
            yield f"ledger: its field {field} is indexed"
    expiry = fields.get(("ledger", EXPIRY_FIELD))
    if expiry is None or not expiry["ttl_config"]:
        yield "ledger: what has expired is never deleted"


def _paths(it: Deployment) -> Iterator[str]:
    edge = Edge(it.only("google_compute_url_map", "edge"), it)
    for name, manifest in it.manifests.items():
        for pattern, methods in manifest.paths.items():
            path = example_path(pattern, below="some/thing")
            for asked in (path, f"{path.rstrip('/')}/"):
                reached = edge.function(Asked(methods[0], asked))
                if reached != name:
                    yield f"paths: {methods[0]} {asked} leads to {reached}, not to {name}"


def _alerts(it: Deployment) -> Iterator[str]:
    metrics = {f"logging.googleapis.com/user/{one['name']}" for one in it.of("google_logging_metric").values()}
    policies = it.of("google_monitoring_alert_policy", "alert")
    if not {"ledger_unavailable", "failures", "outside_consumer"} <= policies.keys():
        yield f"alerts: there are only {sorted(policies)}"
    for name, policy in policies.items():
        watched = re.findall(r'metric\.type = "([^"]+)"', policy["conditions"][0]["condition_threshold"][0]["filter"])
        if not watched or not set(watched) <= metrics:
            yield f"alerts: {name} watches {watched}, which is not counted"
        if not policy["notification_channels"]:
            yield f"alerts: {name} tells nobody"


RULES: Sequence[Callable[[Deployment], Iterator[str]]] = (
    _functions,
    _sizes,
    _environment,
    _secrets,
    _accounts,
    _unapproved,
    _invokers,
    _buckets,
    _ledger,
    _paths,
    _alerts,
)
