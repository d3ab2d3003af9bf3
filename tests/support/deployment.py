"""What a plan of the deployment says, and what is wrong with it. Pure: a plan (`terraform show -json`) is the argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.http.manifest import Manifest
from shared.stores.firestore_rpc import EXPIRY_FIELD, VALUE_FIELD
from tests.support.collections import collections_in, sources
from tests.support.processes import ROOT
from tests.support.routes import example_path
from tests.support.url_map import Asked, Edge

Values = dict[str, Any]
GEMINI_KEY = "GEMINI_API_KEY"
WAITERS_AT_ONCE = range(80, 251)
MAX_WRITERS = 40
"""Instances of all writing functions together that the ledger's document takes."""
BASIC_ROLES = {"roles/owner", "roles/editor", "roles/viewer"}
STORE_ROLES = {"read": "roles/datastore.viewer", "write": "roles/datastore.user"}
ROLES = {"read": "roles/storage.objectViewer", "write": "roles/storage.objectUser"}
PLANNER_ROLES = {"roles/viewer", "roles/iam.securityReviewer", "roles/logging.logWriter"}
"""What the account that plans has on the project: it reads, and writes its log."""
PROVIDERS = {"registry.terraform.io/hashicorp/google", "terraform.io/builtin/terraform"}
"""The second one is a part of Terraform itself (terraform_data): nothing is downloaded for it."""
PROXIES = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"}
METADATA = ("metadata.google.internal", "169.254.169.254")
"""Hosts of the metadata server, where Google's libraries get a function's credential: no proxy reaches it."""
CONFINED = {
    "roles/secretmanager.admin": r'startsWith\("projects/\d+/secrets/gemini-"\)$',
    "roles/storage.admin": r'startsWith\("projects/_/buckets/demo-project-gemini-"\)',
}
"""Roles of the deployer that would read every secret and every bucket of the project -> what their condition ends with."""
EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
FUNCTION = "google_cloudfunctions2_function.function"
RIGHTS = "terraform_data.rights_spread"
AGENTS = "terraform_data.agents_exist"
BEFORE: Sequence[tuple[str, str]] = (
    (FUNCTION, RIGHTS),
    (RIGHTS, "google_secret_manager_secret_iam_member.accessor"),
    (RIGHTS, "google_project_iam_member.ledger"),
    (RIGHTS, "google_project_iam_member.build"),
    (RIGHTS, "google_project_iam_member.deploy"),
    (RIGHTS, "google_storage_bucket_iam_member.build_reads_source"),
    (RIGHTS, "google_storage_bucket_iam_member.images"),
    (RIGHTS, "google_artifact_registry_repository_iam_member.build_writes_images"),
    (RIGHTS, "google_artifact_registry_repository_iam_member.agent_reads_images"),
    (RIGHTS, "google_service_account_iam_member.deploy_acts_as"),
    (RIGHTS, "google_service_account_iam_member.signs_as_itself"),
    ("google_artifact_registry_repository_iam_member.agent_reads_images", AGENTS),
    ("google_monitoring_alert_policy.alert", FUNCTION),
)
"""Orders that Google needs: the first of each pair is made after the second, or creating it fails."""

ALL_APIS = (FUNCTION, AGENTS)
"""Resources that need every API, not only the one of their own type."""

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
        """Everything that is made before this resource, by references and `depends_on`. Locals are not followed."""
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
        """One name stands for the pool of the server's keys."""
        others = {name for name in manifest.secrets if name != GEMINI_KEY}
        return others | self.secret_settings | (self.keys if GEMINI_KEY in manifest.secrets else set())


def _references(expressions: object) -> Iterator[str]:
    if isinstance(expressions, Mapping):
        yield from expressions.get("references", ())
        for inner in expressions.values():
            yield from _references(inner)
    elif isinstance(expressions, list):
        for inner in expressions:
            yield from _references(inner)


def problems(deployment: Deployment) -> list[str]:
    """A sentence for each; none for a deployment as it should be."""
    return [problem for rule in RULES for problem in rule(deployment)]


def _functions(it: Deployment) -> Iterator[str]:
    if it.functions.keys() != it.manifests.keys():
        yield f"functions: {sorted(it.functions.keys() ^ it.manifests.keys())} is in the folders or in the plan, not in both"
    if not it.providers <= PROVIDERS:
        yield f"functions: providers are {sorted(it.providers)}"
    for name, function in it.functions.items():
        build, source = function["build_config"][0], function["build_config"][0]["source"][0]["storage_source"][0]
        if build["entry_point"] != name or not re.fullmatch(r"bundle/[0-9a-f]{32}\.zip", source["object"]):
            yield f"functions: {name} is built from {build['entry_point']} of {source['object']}"


def _orders(it: Deployment) -> Iterator[str]:
    for address in ALL_APIS:
        if "google_project_service.api" not in it.depends_on(address):
            yield f"orders: {address} does not wait for every API"
    for later, earlier in BEFORE:
        if earlier not in it.waits_for(later):
            yield f"orders: {later} does not wait for {earlier}"


def _sizes(it: Deployment) -> Iterator[str]:
    instances = {name: function["service_config"][0]["max_instance_count"] for name, function in it.functions.items()}
    writers = [name for name in instances if name in it.manifests and it.manifests[name].store == "write"]
    if (total := sum(instances[name] for name in writers)) > MAX_WRITERS:
        yield f"sizes: {total} instances may write the ledger, it takes {MAX_WRITERS}"
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
        "CLIENT_ADDRESS_FROM_END": "2",
    }
    if it.secret_settings & PROXIES:
        wanted["NO_PROXY"] = ",".join(METADATA)
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


def _deployer(it: Deployment) -> Iterator[str]:
    """What the account that applies needs beside its roles: to act as every account that it deploys with, and an ID token for
    the functions that it tests."""
    if it.cloud_build is None:
        return
    deployer = it.of("google_service_account", "deploy")["deploy"]
    granted = {
        (one["role"], one["service_account_id"])
        for one in it.of("google_service_account_iam_member").values()
        if one["member"] == deployer["member"]
    }
    accounts = it.of("google_service_account").values()
    needed = {("roles/iam.serviceAccountUser", account["name"]) for account in accounts}
    needed.add(("roles/iam.serviceAccountOpenIdTokenCreator", deployer["name"]))
    for role, account in sorted(needed - granted):
        yield f"deployer: it does not have {role} on {account}"
    for one in it.of("google_project_iam_member", "deploy").values():
        own = CONFINED.get(one["role"])
        expressions = [condition["expression"] for condition in one["condition"]]
        if own is not None and not any(re.search(own, expression) for expression in expressions):
            yield f"deployer: {one['role']} is not confined to the gateway's own: {expressions}"


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
        store = it.manifests[name].store if name in it.manifests else "none"
        wanted = [(STORE_ROLES[store], [database])] if store in STORE_ROLES else []
        has = [
            (one["role"], [c["expression"] for c in one["condition"]])
            for one in granted.get(f"serviceAccount:{email}", [])
        ]
        if has != wanted:
            yield f"accounts: {name} has {has} on the project, not {wanted}: its endpoint.json says store {store}"


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
        "database_edition": "STANDARD",
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
    used = collections_in(sources(ROOT))
    if unused := {collection for collection, _ in fields} - used:
        yield f"ledger: no code uses the collections {sorted(unused)}"
    for collection in sorted(used):
        for field in (VALUE_FIELD, EXPIRY_FIELD):
            one = fields.get((collection, field))
            if one is None or len(one["index_config"]) != 1 or one["index_config"][0]["indexes"]:
                yield f"ledger: field {field} of the collection {collection} is indexed"
        expiry = fields.get((collection, EXPIRY_FIELD))
        if expiry is None or not expiry["ttl_config"]:
            yield f"ledger: expired documents of the collection {collection} are never deleted"


def _paths(it: Deployment) -> Iterator[str]:
    edge = Edge(it.only("google_compute_url_map", "edge"), it)
    for name, manifest in it.manifests.items():
        reached = edge.function(Asked("GET", "/health", {"x-gateway-function": name}))
        if reached != name:
            yield f"paths: GET /health of {name} leads to {reached}"
        for pattern, methods in manifest.paths.items():
            path = example_path(pattern, below="some/thing")
            for asked in (path, f"{path.rstrip('/')}/"):
                reached = edge.function(Asked(methods[0], asked))
                if reached != name:
                    yield f"paths: {methods[0]} {asked} leads to {reached}, not to {name}"


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


RULES: Sequence[Callable[[Deployment], Iterator[str]]] = (
    _functions,
    _orders,
    _sizes,
    _environment,
    _secrets,
    _accounts,
    _deployer,
    _unapproved,
    _invokers,
    _buckets,
    _ledger,
    _paths,
    _alerts,
    _labels,
    _request_logs,
)
