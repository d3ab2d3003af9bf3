"""Errors that somebody could make in the deployment, each planted: Terraform refuses it, or the plan is found wrong."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.http.manifest import load_all
from tests.support.deployment import Deployment, problems
from tests.support.terraform import Finished, Terraform, given, stage


@dataclass(frozen=True, slots=True)
class Planted:
    """`old` in `file`, below terraform/, becomes `new`; an empty `old` is the file's end. `told` is a pattern."""

    name: str
    file: str
    old: str
    new: str
    told: str

    def into(self, checkout: Path) -> None:
        file = checkout / "terraform" / self.file
        text = file.read_text()
        assert self.old in text, f"{self.file} no longer has {self.old!r}"
        file.write_text(text.replace(self.old, self.new) if self.old else f"{text}\n{self.new}\n")


SEEN_IN_THE_PLAN = [
    Planted(
        "a function without the ledger's variables",
        "functions.tf",
        "      local.environment,\n",
        '      { for key, value in local.environment : key => value if key != "LEDGER_URL" },\n',
        r"environment: chat has LEDGER_URL = None",
    ),
    Planted(
        "every line of the log parsed twice",
        "functions.tf",
        'LOG_EXECUTION_ID = "false"',
        'LOG_EXECUTION_ID = "true"',
        r"environment: chat has LOG_EXECUTION_ID = 'true'",
    ),
    Planted(
        "a key in plain sight",
        "functions.tf",
        "environment = merge(var.settings, {",
        'environment = merge(var.settings, { ADMIN_API_KEY = "a-key" }, {',
        r"environment: chat has \['ADMIN_API_KEY'\] in plain sight",
    ),
    Planted(
        "one request at a time",
        "functions.tf",
        "max_instance_request_concurrency = each.value.concurrency",
        "max_instance_request_concurrency = 1",
        r"sizes: chat has max_instance_request_concurrency 1",
    ),
    Planted(
        "a list of functions",
        "functions.tf",
        'fileset("${local.root}/functions", "*/endpoint.json")',
        'setsubtract(fileset("${local.root}/functions", "*/endpoint.json"), ["generate_text/endpoint.json"])',
        r"functions: \['generate_text'\] is in the folders or in the plan",
    ),
    Planted(
        "a revision that does not wait for its secrets",
        "functions.tf",
        "    google_secret_manager_secret_iam_member.accessor,\n",
        "",
        r"functions: they do not wait for \['google_secret_manager_secret_iam_member.accessor'\]",
    ),
    Planted(
        "a secret in the state",
        "secrets.tf",
        "",
        'resource "google_secret_manager_secret_version" "admin" {\n'
        '  secret      = google_secret_manager_secret.secret["ADMIN_API_KEY"].id\n'
        '  secret_data = "a-key"\n}',
        r"secrets: a value is in the state",
    ),
    Planted(
        "a secret that a function may not read",
        "secrets.tf",
        "secret = secret } }\n",
        'secret = secret } } if name != "batch"\n',
        r"secrets: batch may read \[\]",
    ),
    Planted(
        "secrets of other functions",
        "secrets.tf",
        "",
        'resource "google_secret_manager_secret_iam_member" "other" {\n  secret_id = "of-somebody-else"\n'
        '  role      = "roles/secretmanager.secretAccessor"\n  member    = google_service_account.function["health"].member\n}',
        r"secrets: health may read \[.*'of-somebody-else'\]",
    ),
    Planted(
        "a function that owns every database",
        "iam.tf",
        'each.value.public ? "roles/datastore.viewer" : "roles/datastore.user"',
        '"roles/datastore.owner"',
        r"accounts: chat has \[\('roles/datastore.owner'",
    ),
    Planted(
        "a push that runs with the deployer's rights",
        "deploy.tf",
        'approval = false, account = google_service_account.plan["plan"].id',
        'approval = false, account = google_service_account.deploy["deploy"].id',
        r"unapproved: the trigger plan runs as gemini-deploy@",
    ),
    Planted(
        "a push that may change the project",
        "deploy.tf",
        '"roles/iam.securityReviewer", "roles/logging.logWriter"])',
        '"roles/iam.securityReviewer", "roles/logging.logWriter", "roles/run.admin"])',
        r"unapproved: a push has roles/run.admin on the project",
    ),
    Planted(
        "a push that may read a key",
        "deploy.tf",
        "",
        'resource "google_secret_manager_secret_iam_member" "plan" {\n'
        '  secret_id = google_secret_manager_secret.secret["ADMIN_API_KEY"].secret_id\n'
        '  role      = "roles/secretmanager.secretAccessor"\n  member    = google_service_account.plan["plan"].member\n}',
        r"unapproved: a push has roles/secretmanager.secretAccessor",
    ),
    Planted(
        "a push that replaces plans",
        "deploy.tf",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
        r"unapproved: a push has roles/storage.objectUser on demo-project-terraform-state",
    ),
    Planted(
        "a push that writes the state",
        "deploy.tf",
        "/objects/plans/",
        "/objects/",
        r"unapproved: a push has roles/storage.object\w+ on demo-project-terraform-state .*/objects/\\?\"\)",
    ),
    Planted(
        "a push that acts as the deployer",
        "deploy.tf",
        "",
        'resource "google_service_account_iam_member" "plan" {\n'
        '  service_account_id = google_service_account.deploy["deploy"].name\n'
        '  role               = "roles/iam.serviceAccountTokenCreator"\n'
        '  member             = google_service_account.plan["plan"].member\n}',
        r"unapproved: a push has roles/iam.serviceAccountTokenCreator",
    ),
    Planted(
        "projects that health does not know",
        "functions.tf",
        "each.value.public ? { GEMINI_PROJECTS =",
        "false ? { GEMINI_PROJECTS =",
        r"environment: health has GEMINI_PROJECTS = None",
    ),
    Planted(
        "a ledger that is not the gateway's alone",
        "iam.tf",
        'expression = "resource.name == \\"${local.gateway_database}\\""',
        'expression = "true"',
        r"accounts: health has .*not roles/datastore.viewer on its database alone",
    ),
    Planted(
        "a builder that may do everything",
        "build.tf",
        '"roles/logging.logWriter"    = null',
        '"roles/editor" = null',
        r"accounts: serviceAccount:gemini-build@\S+ has roles/editor",
    ),
    Planted(
        "callers who may change the function",
        "iam.tf",
        '"roles/run.invoker"',
        '"roles/run.admin"',
        r"invokers: allUsers has roles/run.admin on gemini-health",
    ),
    Planted(
        "a function that nobody may call",
        "iam.tf",
        "=> { function = name, member = member } }\n",
        '=> { function = name, member = member } } if name != "chat"\n',
        r"invokers: nobody may call \['gemini-chat'\]",
    ),
    Planted(
        "a bucket that can be made public",
        "storage.tf",
        '"enforced"\n  force_destroy               = !var.deletion_protection',
        '"inherited"\n  force_destroy               = !var.deletion_protection',
        r"buckets: demo-project-gemini-images can be made public",
    ),
    Planted(
        "a public bucket",
        "storage.tf",
        "",
        'resource "google_storage_bucket_iam_member" "public" {\n  bucket = google_storage_bucket.images.name\n'
        '  role   = "roles/storage.objectViewer"\n  member = "allUsers"\n}',
        r"buckets: everybody has roles/storage.objectViewer on demo-project-gemini-images",
    ),
    Planted(
        "images for every function",
        "storage.tf",
        'name => function.storage if function.storage != "none"',
        'name => "write"',
        r"buckets: \[.*'chat'.*\] may use the images",
    ),
    Planted(
        "images that are deleted before their time",
        "storage.tf",
        "age = lifecycle_rule.value",
        "age = lifecycle_rule.value - 23",
        r"environment: image has IMAGE_TTL_DAYS = '30', not '7'",
    ),
    Planted(
        "links that lead to no image",
        "functions.tf",
        '"https://${var.domain}"',
        '"https://gemini-generate.example.com"',
        r"environment: generate has PUBLIC_BASE_URL = 'https://gemini-generate.example.com'",
    ),
    Planted(
        "images that cannot be deleted",
        "storage.tf",
        'write = "roles/storage.objectUser"',
        'write = "roles/storage.objectViewer"',
        r"buckets: image has roles/storage.objectViewer on the images",
    ),
    Planted(
        "a function that signs what it does not hand out",
        "iam.tf",
        "[local.image_function] : []",
        "keys(local.functions) : []",
        r"buckets: \[.*'chat'.*\] may sign as themselves, \['image'\] hands out signed addresses",
    ),
    Planted(
        "images that cannot be brought back",
        "storage.tf",
        "  soft_delete_policy {\n    retention_duration_seconds = 7 * 24 * 3600\n  }\n",
        "",
        r"buckets: the images' bucket has no lifecycle, soft delete or CORS",
    ),
    Planted(
        "a ledger that locks",
        "firestore.tf",
        '"OPTIMISTIC"',
        '"PESSIMISTIC"',
        r"ledger: concurrency_mode is PESSIMISTIC",
    ),
    Planted(
        "a ledger that cannot be brought back",
        "firestore.tf",
        '"POINT_IN_TIME_RECOVERY_ENABLED"',
        '"POINT_IN_TIME_RECOVERY_DISABLED"',
        r"ledger: point_in_time_recovery_enablement is POINT_IN_TIME_RECOVERY_DISABLED",
    ),
    Planted(
        "a ledger that anybody deletes",
        "firestore.tf",
        'var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"',
        '"DELETE_PROTECTION_DISABLED"',
        r"ledger: delete_protection_state is DELETE_PROTECTION_DISABLED",
    ),
    Planted(
        "an index on the ledger's bytes",
        "firestore.tf",
        'value_field   = "s"',
        'value_field   = "state"',
        r"ledger: its field s is indexed",
    ),
    Planted(
        "documents that never go",
        "firestore.tf",
        "  ttl_config {}\n",
        "",
        r"ledger: what has expired is never deleted",
    ),
    Planted(
        "a path that leads nowhere",
        "edge.tf",
        "[for prefix in keys(local.below) : format",
        '[for prefix in setsubtract(keys(local.below), ["/image/"]) : format',
        r"paths: GET /image/some/thing leads to health, not to image",
    ),
    Planted(
        "an alert on what is not counted",
        "monitoring.tf",
        "logging.googleapis.com/user/${google_logging_metric.requests.name}",
        "logging.googleapis.com/user/requests",
        r"alerts: failures watches \['logging.googleapis.com/user/requests'\]",
    ),
    Planted(
        "an alert that tells nobody",
        "monitoring.tf",
        "[for channel in google_monitoring_notification_channel.email : channel.id]",
        "[]",
        r"alerts: failures tells nobody",
    ),
]


@pytest.fixture(scope="module")
def found(applied: Terraform, grown_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All of them are planted at once: none may hide another."""
    checkout = planted(grown_checkout, tmp_path_factory.mktemp("planted") / "checkout", *SEEN_IN_THE_PLAN)
    plan = applied.plan(checkout, "-var=deletion_protection=true")
    return problems(Deployment(plan, load_all(checkout / "functions")))


def planted(source: Path, target: Path, *errors: Planted) -> Path:
    checkout = stage(target)
    (checkout / "functions").unlink()
    shutil.copytree(source / "functions", checkout / "functions")
    for error in errors:
        error.into(checkout)
    return checkout


@pytest.mark.parametrize("error", SEEN_IN_THE_PLAN, ids=lambda error: error.name)
def test_the_plan_is_found_wrong(found: list[str], error: Planted) -> None:
    assert [problem for problem in found if re.match(error.told, problem)], found


NOT_VALID = [
    Planted(
        "an attribute that does not exist",
        "functions.tf",
        "available_memory    ",
        "available_ram    ",
        r"An argument named \"available_ram\" is not expected",
    ),
    Planted(
        "an attribute that is missing",
        "functions.tf",
        "  location    = var.region\n",
        "",
        r"\"location\" is required",
    ),
]


@pytest.fixture(scope="module")
def validated(applied: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    checkout = stage(tmp_path_factory.mktemp("not_valid") / "checkout")
    for error in NOT_VALID:
        error.into(checkout)
    return applied.run(checkout, "validate", "-no-color")


@pytest.mark.parametrize("error", NOT_VALID, ids=lambda error: error.name)
def test_it_is_not_valid(validated: Finished, error: Planted) -> None:
    assert validated.status != 0
    assert re.search(error.told, validated.output), validated.error


PUBLIC_KEY = Planted(
    "a public function with a Gemini key",
    "functions.tf",
    "      secrets = setunion(var.secret_settings, ",
    "      secrets = setunion(var.secret_settings, keys(var.gemini_api_keys), ",
    r"health: a public function must not have GEMINI_API_KEY in its secrets",
)
REFUSED = [
    PUBLIC_KEY,
    Planted(
        "a value that is none of those allowed",
        "firestore.tf",
        '"OPTIMISTIC"',
        '"HOPEFUL"',
        r"expected concurrency_mode to be one of",
    ),
    Planted(
        "a name that the platform refuses",
        "functions.tf",
        '${replace(name, "_", "-")}',
        "${name}",
        r"invalid value for \w+: \"gemini-generate_text\"",
    ),
    Planted(
        "a second provider",
        "versions.tf",
        "  required_providers {\n",
        '  required_providers {\n    random = {\n      source = "hashicorp/random"\n    }\n',
        r"hashicorp/random",
    ),
    Planted(
        "a memory that is no number",
        "tests/everything.tfvars",
        "min_instances = 1",
        'memory_mb = "plenty"',
        r"a number is required",
    ),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: error.name)
def test_terraform_refuses_to_plan_it(offline: Path, applied: Terraform, tmp_path: Path, error: Planted) -> None:
    checkout = stage(tmp_path / "checkout")
    error.into(checkout)
    done = applied.run(checkout, "plan", *given("-refresh=false"))
    assert done.status != 0
    assert re.search(error.told, done.output), done.error


def test_a_public_function_with_a_key_is_found_wrong(applied: Terraform, tmp_path: Path) -> None:
    """Where Terraform's own precondition is missing too."""
    checkout = stage(tmp_path / "checkout")
    PUBLIC_KEY.into(checkout)
    file = checkout / "terraform" / "functions.tf"
    file.write_text(file.read_text().replace("condition     = !each.value.public || ", "condition     = true || "))
    found = problems(Deployment(applied.plan(checkout), load_all(checkout / "functions")))
    assert "secrets: anybody may call health, and it has ['GEMINI_API_KEY_1', 'GEMINI_API_KEY_2']" in found


NOT_ALLOWED = [
    Planted(
        "an API that is not enabled",
        "apis.tf",
        '      "monitoring.googleapis.com",\n',
        "",
        r"Error 403: monitoring.googleapis.com has not been used",
    ),
    Planted(
        "a resource that does not wait for its API",
        "firestore.tf",
        '  depends_on = [google_project_service.api["firestore.googleapis.com"]]\n',
        "",
        r"Error 403: firestore.googleapis.com has not been used",
    ),
]


@pytest.mark.parametrize("error", NOT_ALLOWED, ids=lambda error: error.name)
def test_it_cannot_be_applied(offline: Path, tmp_path: Path, error: Planted) -> None:
    checkout = stage(tmp_path / "checkout")
    error.into(checkout)
    targets = ("-target=google_firestore_database.gateway", "-target=google_monitoring_notification_channel.email")
    done = Terraform(offline, tmp_path / "home").run(checkout, "apply", *given("-auto-approve", *targets))
    assert done.status != 0
    assert re.search(error.told, done.output), done.error


def test_what_is_no_setting_is_told_by_its_name(applied: Terraform, checkout: Path) -> None:
    wrong = {
        "GEMINI_TEIR": "which shared/settings/ does not read",
        "LEDGER_URL": "which Terraform sets itself",
        "GEMINI_API_KEY": "A key is a secret: it goes into Secret Manager",
        "ALL_PROXY": "which may hold a credential: name it in secret_settings instead",
        "HTTPS_PROXY": "which may hold a credential: name it in secret_settings instead",
    }
    settings = json.dumps(dict.fromkeys(wrong, "value-of-a-setting"))
    done = applied.run(checkout, "plan", *given("-refresh=false", f"-var=settings={settings}"))
    assert done.status != 0
    for name, told in wrong.items():
        assert told in done.output, name


def test_a_timeout_that_the_functions_do_not_live_to_see_is_told(applied: Terraform, checkout: Path) -> None:
    settings = json.dumps({"REQUEST_TIMEOUT_SECONDS": "150"})
    done = applied.run(checkout, "plan", *given("-refresh=false", f"-var=settings={settings}"))
    assert done.status != 0
    assert "generate: timeout_s must be at least 200" in done.output
    assert "chat: timeout_s" not in done.output


def test_an_endpoint_json_that_cannot_be_deployed_is_told_by_its_name(
    applied: Terraform, grown_checkout: Path, tmp_path: Path
) -> None:
    checkout = planted(grown_checkout, tmp_path / "checkout")
    wrong: dict[str, tuple[dict[str, object], str]] = {
        "chat": ({"cpu": 0.5}, "concurrency must be from 1 to 250, and more than 1 needs a whole CPU"),
        "health": ({"concurrency": 1000}, "concurrency must be from 1 to 250"),
        "generate_text": ({"timeout_s": 4000}, "timeout_s must be from 1 to 3600"),
        "image": ({"storage": "all"}, "storage must be none, read or write"),
        "generate": ({"timeout_s": 169}, "timeout_s must be at least 170, or the platform ends requests"),
    }
    for name, (fields, _) in wrong.items():
        file = checkout / "functions" / name / "endpoint.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    done = applied.run(checkout, "plan", *given("-refresh=false"))
    assert done.status != 0
    for name, (_, told) in wrong.items():
        assert f"{name}: {told}" in done.output
