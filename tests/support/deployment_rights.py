"""The rights of the accounts in a planned deployment, and their problems. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tests.support.planned import Deployment, Values

BASIC_ROLES = {"roles/owner", "roles/editor", "roles/viewer"}
STORE_ROLES = {"read": "roles/datastore.viewer", "write": "roles/datastore.user"}
PLANNER_ROLES = {"roles/viewer", "roles/iam.securityReviewer", "roles/logging.logWriter"}
"""The roles of the account that plans: it reads, and writes its log."""
CONFINED = {
    "roles/secretmanager.admin": r'startsWith\("projects/\d+/secrets/gemini-"\)$',
    "roles/storage.admin": r'startsWith\("projects/_/buckets/demo-project-gemini-"\)',
}
"""Roles of the deployer that would read every secret and every bucket of the project -> what their condition ends with."""
EVERYBODY = {"allUsers", "allAuthenticatedUsers"}


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
    """What the account that applies needs besides its roles: to act as every account with which it deploys, and an ID token
    for the functions that it tests."""
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
    """The account of the trigger that runs for every push, without approval."""
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


RIGHTS_RULES: Sequence[Callable[[Deployment], Iterator[str]]] = (_secrets, _accounts, _deployer, _unapproved, _invokers)
