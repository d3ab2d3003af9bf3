"""The problems of a planned deployment. Pure: a plan (`terraform show -json`) is the argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from shared.generation import JsonObject
from shared.media.port import FILES
from shared.openai_format.file_bodies import MAX_TTL_S
from shared.stores.firestore_rpc import EXPIRY_FIELD, VALUE_FIELD
from tests.support.collections import collections_in, sources
from tests.support.deployment_alerts import SEEN_RULES
from tests.support.deployment_rights import EVERYBODY, RIGHTS_RULES
from tests.support.planned import GEMINI_KEY, Deployment
from tests.support.processes import ROOT
from tests.support.routes import example_path
from tests.support.url_map import Edge, RoutedRequest

__all__ = ["Deployment", "problems"]

WAITERS_AT_ONCE = range(80, 1001)
MAX_WRITERS = 40
"""Maximum instances of all writing functions together that the ledger's document supports."""
ROLES = {"read": "roles/storage.objectViewer", "write": "roles/storage.objectUser"}
PROVIDERS = {"registry.terraform.io/hashicorp/google", "terraform.io/builtin/terraform"}
"""The second one is a part of Terraform itself (terraform_data): nothing is downloaded for it."""
PROXIES = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"}
METADATA = ("metadata.google.internal", "169.254.169.254")
"""Hosts of the metadata server, where Google's libraries get a function's credential: no proxy reaches it."""
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
"""Orders that Google requires: the first of each pair is created after the second, otherwise its creation fails."""
ALL_APIS = (FUNCTION, AGENTS)
"""Resources that need every API, not only the one of their own type."""


def problems(deployment: Deployment) -> list[str]:
    """A sentence for each problem; none for a correct deployment."""
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
    """The functions' settings for images must agree with the bucket's configuration."""
    images = it.only("google_storage_bucket", "images")
    ages = _ages_of_deletion(images, None)
    return {
        "STORAGE_URL": f"gs://{images['name']}",
        "IMAGE_TTL_DAYS": str(min(ages)) if ages else "unlimited",
        "PUBLIC_BASE_URL": it.base_url,
    }


def _ages_of_deletion(bucket: JsonObject, prefix: str | None) -> list[int]:
    """Days after which objects are deleted: those that begin with `prefix`, or all."""
    conditions = [one["condition"][0] for one in bucket["lifecycle_rule"] if one["action"][0]["type"] == "Delete"]
    return [one["age"] for one in conditions if (one.get("matches_prefix") or None) == (prefix and [prefix])]


def _buckets(it: Deployment) -> Iterator[str]:
    for bucket in it.of("google_storage_bucket").values():
        if not bucket["uniform_bucket_level_access"] or bucket["public_access_prevention"] != "enforced":
            yield f"buckets: {bucket['name']} can be made public"
    images = it.only("google_storage_bucket", "images")
    if not images["lifecycle_rule"] or not images["soft_delete_policy"] or not images["cors"]:
        yield "buckets: the images' bucket has no lifecycle, soft delete or CORS"
    if _ages_of_deletion(images, f"{FILES}/") != [MAX_TTL_S // 86_400 + 1]:
        yield "buckets: files of callers are not deleted after their longest lifetime"
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
        reached = edge.function(RoutedRequest("GET", "/health", {"x-gateway-function": name}))
        if reached != name:
            yield f"paths: GET /health of {name} leads to {reached}"
        for pattern, methods in manifest.paths.items():
            path = example_path(pattern, below="some/thing")
            for asked in (path, f"{path.rstrip('/')}/"):
                reached = edge.function(RoutedRequest(methods[0], asked))
                if reached != name:
                    yield f"paths: {methods[0]} {asked} leads to {reached}, not to {name}"


RULES: Sequence[Callable[[Deployment], Iterator[str]]] = (
    _functions,
    _orders,
    _sizes,
    _environment,
    *RIGHTS_RULES,
    _buckets,
    _ledger,
    _paths,
    *SEEN_RULES,
)
