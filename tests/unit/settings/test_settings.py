"""The environment becomes a frozen value, or one sentence that says what is wrong with it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import pytest

from shared.ledger.limits import TIERS, UNLIMITED, Limits
from shared.secret import Secret
from shared.settings.keys import ServerKey
from shared.settings.settings import Settings, SettingsError
from shared.settings.tracing import Tracing

SECRET = "AQ.this-must-not-be-shown"
KEY_A, KEY_B = "AQ.key-number-a", "AIza-key-number-b"


def settings(**env: str) -> Settings:
    return Settings.from_environment(env)


def refusal(**env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**env)
    return str(caught.value)


@pytest.mark.parametrize(("limit", "connections"), [("15", 100), ("120", 240), ("900", 1000)])
def test_one_process_can_use_the_keys_concurrency(limit: str, connections: int) -> None:
    keys = {"GEMINI_API_KEY_1": "one-gemini-key", "GEMINI_API_KEY_2": "another-gemini-key"}
    assert settings(GEMINI_CONCURRENCY_LIMIT=limit, **keys).max_connections == connections


def test_an_empty_environment_is_enough_for_a_local_run() -> None:
    made = settings()
    assert (made.concurrency_limit, made.tier, made.limits) == (15, "tier1", TIERS["tier1"])
    assert (made.request_timeout_s, made.queue_timeout_s, made.max_connections) == (120, 30, 100)
    assert (made.ledger_url, made.window_s, made.lease_s) == ("sqlite:///.local/ledger.db", 60, None)
    assert (made.host, made.port, made.workers) == ("127.0.0.1", 5004, 1)
    assert (made.admin_api_keys, made.server_keys, made.allow_anonymous) == ((), (), frozenset())
    assert made.base_url == "https://generativelanguage.googleapis.com"
    assert made.cors_origins == ("*",)
    assert made.caller_limits == made.limits


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings(GEMINI_LIMITS='{"m": {}}').model_limits["m"] = UNLIMITED  # type: ignore[index]


def test_a_blank_variable_counts_as_not_set() -> None:
    assert settings(PORT=" ", GEMINI_API_KEY="", GEMINI_TIER="\n") == settings()


def test_the_version_is_the_installed_packages() -> None:
    assert settings().version[0].isdigit()


# Each wrong value: the variable, what was given, what the sentence must tell besides its name.
WRONG = [
    ("GEMINI_PROJECTS", "my-project", "GEMINI_API_KEY_1=my-project"),
    ("GEMINI_PROJECTS", "GEMINI_API_KEY_1=my project", "GEMINI_API_KEY_1=my-project"),
    ("GEMINI_PROJECTS", "OTHER_KEY=my-project", "GEMINI_API_KEY_1=my-project"),
    ("GEMINI_CONCURRENCY_LIMIT", "0", "1 to 10000"),
    ("GEMINI_CONCURRENCY_LIMIT", "15.5", "15.5"),
    ("GEMINI_CANCELS", "yes", "0, 1"),
    ("GEMINI_TIER", "gold", "free, tier1, tier2, tier3, custom"),
    ("CALLER_KEY_TIER", "gold", "free"),
    ("GEMINI_RPM", "-1", "unlimited"),
    ("GEMINI_TPM", "1e6", "1e6"),
    ("GEMINI_RPD", "none", "unlimited"),
    ("GEMINI_IPM", "many", "many"),
    ("GEMINI_LIMITS", "{", "JSON object"),
    ("GEMINI_LIMITS", "[]", "JSON object"),
    ("GEMINI_LIMITS", '{"m": 1}', "JSON object"),
    ("GEMINI_LIMITS", '{"m": {"rps": 1}}', "rps"),
    ("GEMINI_LIMITS", '{"m": {"rpm": -1}}', "-1"),
    ("GEMINI_LIMITS", '{"m": {"rpm": true}}', "True"),
    ("GEMINI_MODEL_TYPE", "a model", "gemini-3.8-flash"),
    ("GEMINI_MODEL_TYPE", "Gemini-3.8-Flash", "a model id like gemini-3.8-flash"),
    ("GEMINI_MODEL_TYPE", "models/gemini-3-pro-image-preview", "a model that returns text"),
    ("GEMINI_MODEL_TYPE", "gemini-embedding-2", "a model that returns text"),
    ("GEMINI_BASE_URL", "generativelanguage.googleapis.com", "an origin like"),
    ("GEMINI_BASE_URL", "https://example.com/v1beta", "without the API's version"),
    ("REQUEST_TIMEOUT_SECONDS", "0", "0.1 to 3600"),
    ("REQUEST_TIMEOUT_SECONDS", "nan", "nan"),
    ("QUEUE_TIMEOUT_SECONDS", "-1", "0 to 3600"),
    ("MAX_CONNECTIONS", "none", "none"),
    ("CLIENT_ADDRESS_FROM_END", "0", "1 to 10"),
    ("RATE_LIMIT_PER_MINUTE", "0", "from 1 to 10000, or `unlimited`"),
    ("RATE_LIMIT_PER_MINUTE", "20000", "from 1 to 10000, or `unlimited`"),
    ("QUEUE_MAX_MB", "0", "1 to"),
    ("MAX_UPLOAD_MB", "0", "1 to 2048"),
    ("LEDGER_URL", "postgres://host/db", "memory://, sqlite:///path or firestore://project/database"),
    ("LEDGER_URL", "sqlite:///", "the path of a file"),
    ("LEDGER_URL", "firestore://my_project/(default)", "lower-case letters, digits and hyphens"),
    ("STORAGE_URL", "az://bucket", "gs://bucket/prefix or s3://bucket/prefix"),
    ("PUBLIC_BASE_URL", "images.example", "https://images.example"),
    ("PUBLIC_BASE_URL", "https://[images", "https://images.example"),
    ("PUBLIC_BASE_URL", "ftp://images.example", "ftp://images.example"),
    ("IMAGE_TTL_DAYS", "0", "1 to 3650, or `unlimited`"),
    ("IMAGE_TTL_DAYS", "forever", "unlimited"),
    ("SESSION_TTL_HOURS", "0", "1 to 8760"),
    ("SESSION_TTL_HOURS", "unlimited", "1 to 8760"),
    ("IMAGE_URLS", "direct", "proxied, signed"),
    ("IMAGE_URLS", "signed", "a folder, which cannot sign URLs"),
    ("IMAGE_KEEP_PROMPTS", "maybe", "0, 1, false, true"),
    ("LEDGER_LEASE_SECONDS", "0", "0.1 to"),
    ("LEDGER_WINDOW_SECONDS", "61", "0.5 to 60"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "http://localhost:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://host:port-is-no-number", "http://localhost:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1", "http://localhost:4318/v1/traces"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "api-key", "api-key=abc"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "api key=abc", "api-key=abc"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc%0d%0ax: y", "percent-encoded"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.5", "0 to 1"),
    ("OTEL_TRACES_SAMPLER_ARG", "always", "always"),
    ("CORS_ORIGIN", "https://app.example/", "https://app.example"),
    ("CORS_ORIGIN", "*,https://app.example", "a list of origins"),
    ("CALLER_WEIGHTS", '{"a": 0}', "over 0"),
    ("LOG_LEVEL", "verbose", "debug, info, warning, error"),
    ("PORT", "70000", "0 to 65535"),
    ("WORKERS", "0", "1 to 64"),
    ("HTTPS_PROXY", "socks5://x", "http://proxy.example:3128"),
    ("https_proxy", "http://proxy.example:many", "http://proxy.example:3128"),
    ("ALL_PROXY", "socks5://proxy.example:1080", "SOCKS proxies are not supported"),
    ("NO_PROXY", "https://internal.example", "internal.example,.corp.example:8443"),
    ("no_proxy", "10.0.0.0/33", "10.0.0.0/8"),
    ("GEMINI_BASE_URL", "https://[::1", "https://generativelanguage.googleapis.com"),
    ("GEMINI_BASE_URL", "https://a.example https://b.example", "https://generativelanguage.googleapis.com"),
    ("LOG_LEVEL", '"debug"', "set it without them"),
    ("PORT", "'5004'", "set it without them"),
    ("LEDGER_URL", '"memory://"', "set it without them"),
]


@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_a_wrong_value_is_refused_with_one_sentence_about_it(name: str, value: str, told: str) -> None:
    sentence = refusal(**{name: value})
    assert sentence.startswith(name)
    assert told in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_API_KEY", f"two words {SECRET}"),
        ("ADMIN_API_KEY", f"{SECRET}-é"),
        ("GEMINI_API_KEY", f"{SECRET} {SECRET}"),
        ("GEMINI_API_KEY", f"{SECRET} short"),
        ("all_proxy", f"socks5://user:{SECRET}@proxy.example"),
        ("GOOGLE_API_KEY", f"{SECRET}\x7f"),
        ("GEMINI_API_KEY_3", f"{SECRET}\t{SECRET}"),
        ("GEMINI_API_KEY", SECRET[-5:]),
        ("HTTPS_PROXY", f"ftp://user:{SECRET}@proxy.example"),
        ("GEMINI_BASE_URL", f"https://user:{SECRET}@example.com"),
        ("GEMINI_BASE_URL", f"https://example.com?key={SECRET}"),
        ("LEDGER_URL", f"postgres://user:{SECRET}@host/db"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://user:{SECRET}@collector.example"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"https://collector.example/?key={SECRET}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", SECRET),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={SECRET}%00"),
    ],
)
def test_a_refusal_never_shows_a_secret(name: str, value: str) -> None:
    sentence = refusal(**{name: value})
    assert sentence.startswith(name)
    assert SECRET[-5:] not in sentence


def test_what_is_shown_of_it_holds_no_secret() -> None:
    made = settings(
        ADMIN_API_KEY=SECRET,
        GEMINI_API_KEY=SECRET,
        HTTPS_PROXY=f"http://user:{SECRET}@proxy.example:1",
        OTEL_EXPORTER_OTLP_ENDPOINT="https://collector.example",
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
    )
    assert SECRET not in f"{made!r} {made}"


class TestTracing:
    def test_there_is_none_without_an_endpoint(self) -> None:
        assert settings(OTEL_EXPORTER_OTLP_HEADERS="a=b", OTEL_TRACES_SAMPLER_ARG="0.5").tracing is None

    def test_an_endpoint_is_enough(self) -> None:
        made = settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318/").tracing
        assert made == Tracing("http://localhost:4318/v1/traces", (), "gemini-concurrent-generation", 1.0)

    def test_traces_endpoint_has_precedence(self) -> None:
        made = settings(
            OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://collector.example/traces",
            OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20abc%2C1, x-team = gateway",
            OTEL_SERVICE_NAME="gateway",
            OTEL_TRACES_SAMPLER_ARG="0.25",
        ).tracing
        headers = (("Authorization", Secret("Bearer abc,1")), ("x-team", Secret("gateway")))
        assert made == Tracing("https://collector.example/traces", headers, "gateway", 0.25)

    def test_a_deployed_functions_name_is_the_services(self) -> None:
        made = settings(K_SERVICE="chat", GOOGLE_CLOUD_PROJECT="p", OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
        assert made.tracing is not None
        assert made.tracing.service_name == "chat"


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("given", "right"),
        [
            ("https://generativelanguage.googleapis.com/v1beta/openai", "https://generativelanguage.googleapis.com"),
            ("https://generativelanguage.googleapis.com/v1/any", "https://generativelanguage.googleapis.com"),
            ("https://x.example/v1beta/models", "https://x.example"),
            ("https://x.example/v1beta/models/gemini-3.8-flash:generateContent", "https://x.example"),
            ("https://x.example/gemini/v1/", "https://x.example/gemini"),
            ("https://x.example//v1alpha", "https://x.example"),
            ("https://x.example/v1alpha/any", "https://x.example"),
            ("https://x.example/V1Beta", "https://x.example"),
            ("https://x.example/v1/openai/", "https://x.example"),
            ("https://x.example/models", "https://x.example"),
            ("http://127.0.0.1:9000/prefix/openai", "http://127.0.0.1:9000/prefix"),
        ],
    )
    def test_with_part_of_the_api_is_refused_with_what_to_set(self, given: str, right: str) -> None:
        assert refusal(GEMINI_BASE_URL=given).endswith(f"without the API's version and path: set {right}.")

    @pytest.mark.parametrize(
        "given",
        [
            "https://x.example/gemini",
            "https://x.example/vertex/v2ray",
            "https://x.example/projects/team",
            "https://gateway.example/v1/account/gateway/google-ai-studio",
        ],
    )
    def test_a_prefix_of_the_path_is_kept(self, given: str) -> None:
        """A version in a gateway's own prefix is not Gemini's."""
        assert settings(GEMINI_BASE_URL=f"{given}/").base_url == given


class TestKeys:
    @pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY_2", "ADMIN_API_KEY"])
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (f'"{SECRET}"', "is in quotes"),
            (f"'{SECRET}'", "is in quotes"),
            (f"\u201c{SECRET}\u201d", "is in quotes"),
            (f'{SECRET}"', "begins or ends with a quote"),
            (f"Bearer {SECRET}", "without `Bearer`"),
            (f"GEMINI_API_KEY={SECRET}", "set the key alone"),
            ("<your key>", "placeholder"),
            ("your-api-key-here", "placeholder"),
            ("YOUR_GEMINI_API_KEY", "placeholder"),
            ("${GEMINI_API_KEY}", "placeholder"),
            ("$GEMINI_API_KEY", "placeholder"),
            ("changeme", "placeholder"),
            ("xxxxxxxxxxxx", "placeholder"),
        ],
    )
    def test_what_cannot_be_a_key_is_refused(self, name: str, given: str, told: str) -> None:
        sentence = refusal(**{name: given})
        assert sentence.startswith(f"{name} ")
        assert told in sentence
        assert SECRET not in sentence

    @pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY_2"])
    @pytest.mark.parametrize("separator", [",", ", ", ";", " ", "\n", "|", ",\n"])
    def test_several_gemini_keys_in_one_variable_are_refused(self, name: str, separator: str) -> None:
        sentence = refusal(**{name: f"{KEY_A}{separator}{KEY_B}"})
        assert sentence == (
            f"{name} holds 2 keys; it must be one. Set each in a variable of its own: "
            "GEMINI_API_KEY_1, GEMINI_API_KEY_2 and so on."
        )

    def test_a_comma_at_the_end_of_a_gemini_key_is_refused(self) -> None:
        assert "without commas" in refusal(GEMINI_API_KEY=f"{KEY_A},")

    def test_a_quoted_admin_key_in_a_list_is_refused(self) -> None:
        assert "without quotes" in refusal(ADMIN_API_KEY=f'new-key,"{SECRET}"')

    def test_a_quoted_variable_of_another_program_is_ignored(self) -> None:
        assert settings(PS1='"$ "') == settings()

    def test_two_admin_keys_may_be_valid_at_once(self) -> None:
        assert [key.reveal() for key in settings(ADMIN_API_KEY=" first, second,").admin_api_keys] == ["first", "second"]

    def test_white_space_around_a_key_is_not_part_of_it(self) -> None:
        assert settings(GEMINI_API_KEY=f"{KEY_A}\n").server_keys[0].secret.reveal() == KEY_A

    def test_the_alias_is_read_only_without_the_first_name(self) -> None:
        both = settings(GEMINI_API_KEY=KEY_A, GOOGLE_API_KEY=KEY_B).server_keys
        assert [(key.secret.reveal(), key.source) for key in both] == [(KEY_A, "GEMINI_API_KEY")]
        alias = settings(GOOGLE_API_KEY=KEY_B).server_keys
        assert [(key.secret.reveal(), key.source) for key in alias] == [(KEY_B, "GOOGLE_API_KEY")]

    def test_numbered_keys_are_a_pool_in_the_order_of_their_numbers(self) -> None:
        made = settings(
            GEMINI_API_KEY_10="AQ.tenth-key", GEMINI_API_KEY_2="AQ.second-key", GEMINI_API_KEY="AQ.single-key"
        )
        assert [key.source for key in made.server_keys] == ["GEMINI_API_KEY", "GEMINI_API_KEY_2", "GEMINI_API_KEY_10"]
        assert len({key.project for key in made.server_keys}) == 3

    def test_derived_project_is_stable_and_hides_the_key(self) -> None:
        (one,), (other,) = settings(GEMINI_API_KEY=KEY_A).server_keys, settings(GEMINI_API_KEY_7=KEY_A).server_keys
        assert one.project == other.project
        assert KEY_A not in one.project

    def test_keys_of_one_named_project_share_it(self) -> None:
        made = settings(
            GEMINI_API_KEY_1=KEY_A,
            GEMINI_API_KEY_1_PROJECT="shared",
            GEMINI_API_KEY_2=KEY_B,
            GEMINI_API_KEY_2_PROJECT="shared",
        )
        assert [key.project for key in made.server_keys] == ["shared", "shared"]

    def test_the_project_of_a_single_key_may_be_named_too(self) -> None:
        made = settings(GEMINI_API_KEY=KEY_A, GEMINI_API_KEY_PROJECT="mine")
        assert [key.project for key in made.server_keys] == ["mine"]

    def test_a_key_given_twice_counts_once(self) -> None:
        made = settings(GEMINI_API_KEY=KEY_A, GEMINI_API_KEY_1=KEY_A, GEMINI_API_KEY_1_PROJECT="p")
        assert made.server_keys == (ServerKey(made.server_keys[0].secret, "p", "GEMINI_API_KEY"),)

    def test_a_key_of_two_projects_is_refused(self) -> None:
        env = {"GEMINI_API_KEY_1": KEY_A, "GEMINI_API_KEY_1_PROJECT": "p", "GEMINI_API_KEY_2": KEY_A}
        assert "GEMINI_API_KEY_2" in refusal(**env, GEMINI_API_KEY_2_PROJECT="q")

    def test_a_project_without_its_key_is_refused(self) -> None:
        assert "GEMINI_API_KEY_4_PROJECT" in refusal(GEMINI_API_KEY_4_PROJECT="p")


class TestLimits:
    def test_single_variables_override_the_tier(self) -> None:
        made = settings(GEMINI_TIER="free", GEMINI_RPM="7", GEMINI_IPM="3", GEMINI_RPD="unlimited")
        assert made.limits == Limits(requests=7, input_tokens=25_000, images=3, requests_per_day=None)

    def test_zero_is_really_zero(self) -> None:
        assert settings(GEMINI_RPM="0").limits.requests == 0

    @pytest.mark.parametrize("tier", ["tier3", "custom", "CUSTOM"])
    def test_the_tier_without_limits_needs_each_of_them(self, tier: str) -> None:
        sentence = refusal(GEMINI_TIER=tier, GEMINI_RPM="1")
        assert "GEMINI_TPM and GEMINI_RPD" in sentence
        made = settings(GEMINI_TIER=tier, GEMINI_RPM="1", GEMINI_TPM="unlimited", GEMINI_RPD="2")
        assert (made.tier, made.limits) == ("tier3", Limits(requests=1, requests_per_day=2))

    def test_a_models_limits_are_the_tiers_where_they_are_not_given(self) -> None:
        made = settings(GEMINI_LIMITS='{"gemini-4-argon": {"rpm": 10, "tpm": "unlimited"}}')
        assert made.limits_of("gemini-4-argon") == Limits(requests=10, requests_per_day=1000)
        assert made.limits_of("another") == TIERS["tier1"]

    def test_caller_keys_have_the_servers_limits_by_default(self) -> None:
        assert settings(GEMINI_RPM="9").caller_limits.requests == 9
        assert settings(GEMINI_RPM="9", CALLER_KEY_TIER="free").caller_limits == TIERS["free"]
        assert settings(CALLER_KEY_TIER="custom").caller_limits == UNLIMITED


class TestPlace:
    def test_form_fits_into_the_platforms_request(self) -> None:
        """Deployed, a whole body has 32 MB, of which a form's files are a part."""
        assert settings().max_form_bytes == settings().max_upload_bytes == 100 * 2**20
        deployed = {"K_SERVICE": "openai_api", "GOOGLE_CLOUD_PROJECT": "p"}
        assert settings(**deployed).max_form_bytes == 31 * 2**20
        assert settings(**deployed, MAX_UPLOAD_MB="5").max_form_bytes == 5 * 2**20

    def test_deployed_instances_share_a_ledger_by_default(self) -> None:
        made = settings(K_SERVICE="chat", GOOGLE_CLOUD_PROJECT="my-project")
        assert (made.deployed, made.ledger_url) == (True, "firestore://my-project/(default)")

    def test_deployed_without_a_ledger_is_refused(self) -> None:
        assert "GOOGLE_CLOUD_PROJECT" in refusal(K_SERVICE="chat")

    def test_project_of_the_default_ledger(self) -> None:
        """The project that the platform names becomes part of a URL, so it is checked like one."""
        assert refusal(K_SERVICE="chat", GOOGLE_CLOUD_PROJECT="my_project").startswith(
            "GOOGLE_CLOUD_PROJECT is not valid"
        )

    def test_memory_is_not_shared_by_workers(self) -> None:
        assert settings(LEDGER_URL="memory://").ledger_url == "memory://"
        assert "WORKERS" in refusal(LEDGER_URL="memory://", WORKERS="2")

    def test_this_machine_is_never_reached_through_a_proxy(self) -> None:
        made = settings(HTTPS_PROXY="http://secure.example:1", HTTP_PROXY="http://plain.example:2")
        proxies = [made.proxy_for(url) for url in ("https://a.example", "http://a.example", "http://127.0.0.1:8/x")]
        assert [proxy and proxy.reveal() for proxy in proxies] == [
            "http://secure.example:1",
            "http://plain.example:2",
            None,
        ]

    def test_a_models_name_may_be_given_as_google_writes_it(self) -> None:
        assert settings(GEMINI_MODEL_TYPE="models/gemini-3.8-flash").model_override == "gemini-3.8-flash"

    def test_lists_and_objects_are_read(self) -> None:
        made = settings(
            CORS_ORIGIN="https://a.example, http://localhost:3000",
            CALLER_WEIGHTS='{"team": 2}',
            ALLOW_ANONYMOUS="generate-text,image",
            GEMINI_BASE_URL="http://127.0.0.1:9000/",
        )
        assert made.cors_origins == ("https://a.example", "http://localhost:3000")
        assert made.caller_weights == {"team": 2.0}
        assert made.allow_anonymous == {"generate_text", "image"}
        assert made.base_url == "http://127.0.0.1:9000"


class TestImages:
    def test_locally_they_lie_in_a_folder_for_a_month(self) -> None:
        images = settings().images
        assert (images.storage_url, images.ttl_days) == ("file://.local/storage", 30)
        assert (images.public_base_url, images.signed, images.keep_prompts) == (None, False, False)

    def test_everything_may_be_given(self) -> None:
        images = settings(
            STORAGE_URL="gs://bucket/prefix",
            PUBLIC_BASE_URL="https://images.example/x/",
            IMAGE_TTL_DAYS="unlimited",
            IMAGE_URLS="signed",
            IMAGE_KEEP_PROMPTS="true",
        ).images
        assert (images.storage_url, images.public_base_url) == ("gs://bucket/prefix", "https://images.example/x")
        assert (images.ttl_days, images.signed, images.keep_prompts) == (None, True, True)

    def test_a_deployed_function_has_a_bucket_or_none(self) -> None:
        deployed = {"K_SERVICE": "image", "GOOGLE_CLOUD_PROJECT": "p"}
        assert settings(**deployed).images.storage_url is None
        assert settings(**deployed, STORAGE_URL="gs://bucket").images.storage_url == "gs://bucket"
        assert "it must be a bucket" in refusal(**deployed, STORAGE_URL="file:///images")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("STORAGE_URL", f"s3://{SECRET}@bucket"),
            ("STORAGE_URL", f"s3://bucket?secret_access_key={SECRET}"),
            ("PUBLIC_BASE_URL", f"https://user:{SECRET}@images.example"),
            ("PUBLIC_BASE_URL", f"https://images.example?key={SECRET}"),
        ],
    )
    def test_a_secret_in_a_url_is_not_shown(self, name: str, value: str) -> None:
        said = refusal(**{name: value})
        assert name in said
        assert SECRET not in said


class TestAdminKeys:
    SHORT, LONG = "k" * 15, "k" * 16
    DEPLOYED: ClassVar = {"K_SERVICE": "chat", "GOOGLE_CLOUD_PROJECT": "p"}

    @pytest.mark.parametrize("given", ["a", SHORT, f"{LONG},{SHORT}"])
    def test_a_short_one_is_refused_when_deployed(self, given: str) -> None:
        sentence = refusal(ADMIN_API_KEY=given, **self.DEPLOYED)
        assert "ADMIN_API_KEY has a key of fewer than 16 characters" in sentence
        assert self.SHORT not in sentence

    def test_a_short_one_is_warned_about_elsewhere(self) -> None:
        made = settings(ADMIN_API_KEY=f"{self.LONG},{self.SHORT}")
        assert made.warning is not None
        assert "fewer than 16 characters" in made.warning
        assert self.SHORT not in made.warning

    @pytest.mark.parametrize("given", ["", LONG, f"{LONG},{LONG}2"])
    def test_long_ones_serve_everywhere(self, given: str) -> None:
        assert settings(ADMIN_API_KEY=given).warning is None
        assert len(settings(ADMIN_API_KEY=given, **self.DEPLOYED).admin_api_keys) == len(given.split(",")) * bool(given)


def test_reported_projects_are_by_account() -> None:
    made = settings(GEMINI_PROJECTS="GEMINI_API_KEY=a, GEMINI_API_KEY_2=example.com:b")
    assert made.reported_projects == {"gemini-api-key": "a", "gemini-api-key-2": "example.com:b"}
    assert made.server_keys == ()
