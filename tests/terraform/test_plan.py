"""The deployment as it is planned: complete, of least privilege, and made from the functions' folders alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import pytest

from shared import errors
from shared.http.manifest import load_all, owners
from tests.support.collections import collections_in, sources
from tests.support.deployment import Deployment, problems
from tests.support.functions import called
from tests.support.processes import ROOT
from tests.support.terraform import Terraform
from tests.support.url_map import Edge, RoutedRequest

MANIFESTS = load_all(ROOT / "functions")
SETTINGS = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
LOCAL_ONLY = {"HOST", "PORT", "WORKERS"}
MODULES = "\n".join(file.read_text() for file in (ROOT / "shared" / "settings").glob("*.py"))
READ = set(re.findall(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]+)"', MODULES))
"""As Terraform reads them there. A name has an underscore, but for the local ones."""
NATIVE, OPENAI = "gemini_api", "openai_api"


@pytest.fixture(scope="module")
def deployment(plan: dict[str, Any]) -> Deployment:
    return Deployment(plan, MANIFESTS)


@pytest.fixture(scope="module")
def grown(applied: Terraform, grown_checkout: Path) -> Deployment:
    return Deployment(applied.plan(grown_checkout), load_all(grown_checkout / "functions"))


def test_nothing_is_wrong_with_it(deployment: Deployment) -> None:
    assert problems(deployment) == []


def test_apply_waits_for_rights_by_default() -> None:
    """The offline runs set 0, so that no run holds the default."""
    variables = (ROOT / "terraform/variables.tf").read_text()
    (block,) = re.findall(r'^variable "rights_wait_s" \{\n(.*?)^\}', variables, re.MULTILINE | re.DOTALL)
    assert re.search(r"^  default +=\s60$", block, re.MULTILINE)
    iam, apis = (ROOT / "terraform/iam.tf").read_text(), (ROOT / "terraform/apis.tf").read_text()
    assert [text.count("sleep ${var.rights_wait_s}") for text in (iam, apis)] == [1, 1]


def test_regions_of_google_cloud_are_accepted() -> None:
    variables = (ROOT / "terraform/variables.tf").read_text()
    (pattern,) = re.findall(r'regex\("([^"]+)", var\.region\)', variables)
    good = ["us-central1", "us-south1", "us-east5", "europe-west12", "europe-southwest1", "northamerica-northeast2"]
    good += ["asia-southeast1", "australia-southeast2", "africa-south1", "me-central2", "southamerica-west1"]
    wrong = ["us-central1-a", "eu-west-1", "us-east-1", "us-centrall1", "europe-wset1", "nam5", "US-central1"]
    assert [one for one in good if not re.match(pattern, one)] == []
    assert [one for one in wrong if re.match(pattern, one)] == []


def test_settings_are_exactly_the_documented_ones(deployment: Deployment) -> None:
    """Terraform takes the names from the modules of shared/ that alone read the environment."""
    documented = {name for name in SETTINGS if "API_KEY" not in name}
    assert documented - LOCAL_ONLY <= READ
    env = deployment.functions["chat"]["service_config"][0]["environment_variables"]
    assert {"GEMINI_TIER", "CORS_ORIGIN", "IMAGE_URLS"} <= env.keys(), "the settings of the variables file"
    assert env.keys().isdisjoint(LOCAL_ONLY)


def test_every_variable_read_is_set_or_documented(deployment: Deployment) -> None:
    assert "GEMINI_TIER" in READ
    service = deployment.functions["chat"]["service_config"][0]
    terraform = {*service["environment_variables"], *(one["key"] for one in service["secret_environment_variables"])}
    by_the_platform, in_tests_only = {"K_SERVICE"}, {"LEDGER_WINDOW_SECONDS"}
    operator = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "terraform" / "README.md").read_text()))
    assert READ - terraform - SETTINGS - operator - by_the_platform - in_tests_only == set()


def test_three_values_are_enough(applied: Terraform, checkout: Path, tmp_path: Path) -> None:
    example = checkout / "terraform" / "terraform.tfvars.example"
    values = [line for line in example.read_text().splitlines() if "=" in line]
    assert len(values) == 3
    fresh = Terraform(applied.offline, tmp_path / "home")
    done = fresh.must(checkout, "plan", "-input=false", "-no-color", f"-var-file={example}")
    assert re.search(r"Plan: \d+ to add, 0 to change, 0 to destroy", done.output)


def test_a_new_folder_is_all_that_a_new_function_needs(grown: Deployment) -> None:
    assert problems(grown) == []
    assert {"openai_api", "sessions", "console"} <= grown.functions.keys()


def test_new_collection_in_code_is_found() -> None:
    """The plan is compared with these; a planted key of a collection that Terraform lacks must be among them."""
    modules = dict(sources(ROOT))
    found = collections_in(modules)
    assert {"configuration", "ledger", "rate"} <= found
    planted = 'from shared.stores.port import Put\nkey = f"planted/{name}"\nkind = "text/plain"\n'
    assert collections_in({**modules, "shared/planted.py": planted}) == found | {"planted"}


def test_storing_functions_alone_know_the_bucket(grown: Deployment) -> None:
    for name, function in grown.functions.items():
        env = function["service_config"][0]["environment_variables"]
        stores = grown.manifests[name].storage != "none"
        assert ("STORAGE_URL" in env, "PUBLIC_BASE_URL" in env) == (stores, stores), name
    roles = {name: one["role"] for name, one in grown.of("google_storage_bucket_iam_member", "images").items()}
    assert roles == dict.fromkeys(("batch", "generate", "image", "openai_api", "sessions"), "roles/storage.objectUser")
    assert set(grown.of("google_service_account_iam_member", "signs_as_itself")) == {"image"}


@pytest.mark.parametrize(
    ("asked", "function"),
    [
        (RoutedRequest("GET", "/"), "health"),
        (RoutedRequest("GET", "/health"), "health"),
        (RoutedRequest("GET", "/health", {"x-gateway-function": "chat"}), "chat"),
        (RoutedRequest("GET", "/health", {"x-gateway-function": "nothing"}), "health"),
        (RoutedRequest("POST", "/chat"), "chat"),
        (RoutedRequest("POST", "/chat/"), "chat"),
        (RoutedRequest("POST", "/generate_text"), "generate_text"),
        (RoutedRequest("POST", "/generate"), "generate"),
        (RoutedRequest("GET", "/image/a.png"), "image"),
        (RoutedRequest("GET", "/images"), "image"),
        (RoutedRequest("POST", "/upload"), "sessions"),
        (RoutedRequest("GET", "/stream"), "sessions"),
        (RoutedRequest("DELETE", "/sessions/s1"), "sessions"),
        (RoutedRequest("POST", "/sessions/s1/ticket"), "sessions"),
        (RoutedRequest("POST", "/batch"), "batch"),
        (RoutedRequest("GET", "/batch/b1"), "batch"),
        (RoutedRequest("POST", "/v1/chat/completions"), OPENAI),
        (RoutedRequest("POST", "/v1/responses"), OPENAI),
        (RoutedRequest("GET", "/v1/models"), OPENAI),
        (RoutedRequest("GET", "/v1/models/gemini-3.8-flash"), OPENAI),
        (RoutedRequest("DELETE", "/v1/files/f1"), OPENAI),
        (RoutedRequest("POST", "/v1/models/gemini-3.8-flash:generateContent"), NATIVE),
        (RoutedRequest("GET", "/v1/models", {"x-goog-api-key": "k"}), NATIVE),
        (RoutedRequest("GET", "/v1/files", {"x-goog-api-client": "c"}), NATIVE),
        (RoutedRequest("GET", "/v1/files/f1", query={"key": "k"}), NATIVE),
        (RoutedRequest("POST", "/v1/chat/completions", {"x-goog-api-key": "k"}), OPENAI),
        (RoutedRequest("POST", "/v1beta/models/m:streamGenerateContent"), NATIVE),
        (RoutedRequest("POST", "/upload/v1beta/files"), NATIVE),
        (RoutedRequest("POST", "/gemini/v1/models/m:countTokens"), NATIVE),
        (RoutedRequest("GET", "/api/accounts"), "console"),
        (RoutedRequest("GET", "/docs"), "console"),
        (RoutedRequest("GET", "/openapi.json"), "console"),
        (RoutedRequest("GET", "/nowhere"), "health"),
    ],
    ids=lambda value: f"{value.method} {value.path}" if isinstance(value, RoutedRequest) else value,
)
def test_the_load_balancer_leads_a_path_to_its_function(grown: Deployment, asked: RoutedRequest, function: str) -> None:
    edge = Edge(grown.only("google_compute_url_map", "edge"), grown)
    assert edge.function(asked) == function


def test_the_url_map_agrees_with_the_local_server(grown: Deployment) -> None:
    edge = Edge(grown.only("google_compute_url_map", "edge"), grown)
    local = owners(grown.manifests.values())
    for path in (
        "/upload",
        "/upload/v1/files",
        "/v1beta/x",
        "/v1/x",
        "/gemini/v1beta/x",
        "/api/x",
        "/api/accounts/a1/toggle",
        "/api/accounts/a1/other",
        "/sessions/x/y",
        "/sessions/x",
    ):
        assert edge.function(RoutedRequest("GET", path)) == local.owner(path)


def test_a_template_is_mapped_by_its_literal_prefix(grown: Deployment) -> None:
    """The URL map knows `/sessions/`, once for all templates that begin with it; nothing that `also` names is in it."""
    url_map = grown.only("google_compute_url_map", "edge")
    (matcher,) = url_map["path_matcher"]
    matches = [match for rule in matcher["route_rules"] for match in rule["match_rules"]]
    prefixes = [match["prefix_match"] for match in matches if match["prefix_match"] and not match["header_matches"]]
    assert prefixes.count("/sessions/") == 1
    assert not any("{" in (match["prefix_match"] or match["full_path_match"]) for match in matches)
    edge = Edge(url_map, grown)
    assert grown.manifests["sessions"].also.keys() == {"/", "/chat", "/generate_text"}
    assert edge.function(RoutedRequest("POST", "/chat")) == "chat"


@pytest.mark.parametrize("host", ["metadata.google.internal", "169.254.169.254"])
def test_no_proxy_stands_before_the_metadata_server(deployment: Deployment, host: str) -> None:
    """Google's libraries get a function's credential there; through a proxy it is not reached, and the ledger is lost."""
    env = deployment.functions["chat"]["service_config"][0]["environment_variables"]
    assert "HTTPS_PROXY" in deployment.secret_settings
    assert proxy_bypass_environment(host, {"no": env["NO_PROXY"]})
    assert not proxy_bypass_environment("generativelanguage.googleapis.com", {"no": env["NO_PROXY"]})


def test_with_a_domain_nothing_goes_past_the_load_balancer(deployment: Deployment) -> None:
    for function in deployment.functions.values():
        assert function["service_config"][0]["ingress_settings"] == "ALLOW_INTERNAL_AND_GCLB"


def test_the_outputs_say_where_to_call(deployment: Deployment) -> None:
    outputs = deployment.outputs
    assert outputs["urls"].keys() == {path for manifest in MANIFESTS for path in manifest.paths}
    assert outputs["urls"]["/chat"] == "https://gateway.example.com/chat"
    assert outputs["secrets"]["ADMIN_API_KEY"] == "gemini-admin-api-key"
    assert outputs["ledger_url"] == f"firestore://{deployment.project}/gemini-gateway"


def test_openais_clients_get_a_line_to_paste(grown: Deployment) -> None:
    assert grown.outputs["openai_base_url"] == "OPENAI_BASE_URL=https://gateway.example.com/v1"


async def test_the_alerts_read_what_a_record_has(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """A request is logged, and each field that the metric takes from a record is in it."""
    await called("chat", {"prompt": "Hello"})
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    labels = record.get("logging.googleapis.com/labels", record)
    metrics = deployment.of("google_logging_metric").values()
    extractors = [
        one for metric in metrics for one in (*metric["label_extractors"].values(), metric["value_extractor"])
    ]
    extracted = [re.fullmatch(r"EXTRACT\((\w+)\.(\w+)\)", one) for one in extractors if one]
    assert {"queue_ms", "outcome", "status"} <= {field[2] for field in extracted if field}
    for field in extracted:
        assert field is not None
        assert field[2] in {"labels": labels, "httpRequest": record["httpRequest"]}[field[1]], field[0]
    assert labels["outcome"] == "ok"
    watched = [
        re.findall(r'outcome = "(\w+)"', one["conditions"][0]["condition_threshold"][0]["filter"])
        for one in deployment.of("google_monitoring_alert_policy", "alert").values()
    ]
    codes = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.GatewayError)
    }
    assert {code for codes_ in watched for code in codes_} == {"ledger_unavailable", "rate_limited"} <= codes


def test_critical_alert_explains_the_contradicting_clock(deployment: Deployment) -> None:
    """That record names no setting to change, so that the alert must say what to do."""
    message = "the store's clock contradicts itself"
    assert f'log.critical("{message}' in (ROOT / "shared/admission/ledger_client.py").read_text()
    alert = deployment.only("google_monitoring_alert_policy", "critical")
    assert f"`{message}`" in alert["documentation"][0]["content"]


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_every_input_and_output_is_in_the_readme(kind: str) -> None:
    folder = ROOT / "terraform"
    names = re.findall(rf'^{kind} "(\w+)"', (folder / f"{kind}s.tf").read_text(), re.MULTILINE)
    readme = (folder / "README.md").read_text()
    assert names
    assert [name for name in names if f"`{name}`" not in readme] == []
