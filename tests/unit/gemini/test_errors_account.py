"""Which refusals are about the key or its project: by a reason, or by a text where Google puts it."""

from __future__ import annotations

import orjson
import pytest

from shared.gemini.errors import read_failure
from tests.support.google_errors import error_info, failure

LOCATION = "User location is not supported for the API use."
COUNTRY = (
    "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio."
)
DISABLED = (
    "Generative Language API has not been used in project 411082643095 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/generativelanguage.googleapis.com/overview?project=411082643095 then "
    "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
)
BLOCKED = (
    "Requests to this API generativelanguage.googleapis.com method google.ai.generativelanguage.v1beta.GenerativeService."
    "GenerateContent are blocked."
)
IP = (
    "The provided API key has an IP address restriction. The originating IP address of the call (203.0.113.7) violates this "
    "restriction."
)
UNBILLED = "This API method requires billing to be enabled. Please enable billing on project #58906374421 by visiting https://x."
TEXTS = [
    (400, "FAILED_PRECONDITION", LOCATION),
    (400, "FAILED_PRECONDITION", LOCATION.replace(".", " without a billing account linked.")),
    (400, "FAILED_PRECONDITION", COUNTRY),
    (400, "FAILED_PRECONDITION", UNBILLED),
    (403, "PERMISSION_DENIED", UNBILLED),
    (403, "PERMISSION_DENIED", DISABLED),
    (403, "PERMISSION_DENIED", "Gemini API has not been used in projects/1 before or it is disabled. Enable it ..."),
    (403, "PERMISSION_DENIED", BLOCKED),
    (403, "PERMISSION_DENIED", "Requests from referer <empty> are blocked."),
    (403, "PERMISSION_DENIED", "Requests from this Android client application <empty> are blocked."),
    (403, "PERMISSION_DENIED", "Requests from this iOS client application <empty> are blocked."),
    (403, "PERMISSION_DENIED", IP),
    (
        403,
        "PERMISSION_DENIED",
        "Access to generativelanguage.googleapis.com is restricted from your billing country and was denied for projects/1.",
    ),
    (403, "PERMISSION_DENIED", "Lightning dunning decision is deny for project: projects/188122257775"),
    (403, "PERMISSION_DENIED", "Your project has been denied access. Please contact support."),
    (403, "PERMISSION_DENIED", "Permission denied on resource project gen-lang-client-1."),
    (
        403,
        "PERMISSION_DENIED",
        "Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/projects/p/locations/global/"
        "publishers/google/models/m' (or it may not exist).",
    ),
]
REASONS = [
    "SERVICE_DISABLED",
    "BILLING_DISABLED",
    "API_KEY_SERVICE_BLOCKED",
    "API_KEY_HTTP_REFERRER_BLOCKED",
    "API_KEY_IP_ADDRESS_BLOCKED",
    "API_KEY_ANDROID_APP_BLOCKED",
    "API_KEY_IOS_APP_BLOCKED",
    "CONSUMER_INVALID",
    "LOCATION_POLICY_VIOLATED",
]


class TestRestricted:
    """The key or project is not set up for this use: another account, and this one is paused."""

    @pytest.mark.parametrize(("code", "status", "message"), TEXTS)
    def test_texts_of_google(self, code, status, message):
        found = failure(code, message, status)
        assert (found.kind, found.remedy) == ("restricted", "account_paused")

    @pytest.mark.parametrize("reason", REASONS)
    @pytest.mark.parametrize("code", [400, 403])
    def test_reasons_of_error_info(self, code, reason):
        found = failure(code, "x", "PERMISSION_DENIED", [error_info(reason)])
        assert (found.kind, found.reason) == ("restricted", reason)

    @pytest.mark.parametrize("reason", ["accessNotConfigured", "ipRefererBlocked"])
    def test_reasons_of_the_older_format(self, reason):
        error = {"code": 403, "message": "x", "errors": [{"domain": "usageLimits", "reason": reason}]}
        assert read_failure(403, orjson.dumps({"error": error}), {}).kind == "restricted"

    @pytest.mark.parametrize(("code", "status", "message"), TEXTS)
    def test_proxy_that_renames_the_status(self, code, status, message):
        assert failure(code, message, "Bad Request").kind == "restricted"

    @pytest.mark.parametrize(("code", "status", "message"), TEXTS)
    def test_same_text_under_another_status_is_not_believed(self, code, status, message):
        assert failure(404, message, "NOT_FOUND").kind == "not_found"
        assert failure(500, message, "INTERNAL").kind == "server"

    def test_location_is_not_believed_of_an_invalid_argument(self):
        assert failure(400, LOCATION, "INVALID_ARGUMENT").kind == "bad_request"

    @pytest.mark.parametrize(
        ("code", "message", "kind"),
        [(403, LOCATION, "permission"), (400, DISABLED, "bad_request"), (429, "API key expired.", "pressure")],
    )
    def test_text_under_a_code_that_it_never_has(self, code, message, kind):
        assert failure(code, message).kind == kind


class TestKeys:
    @pytest.mark.parametrize(
        "message",
        [
            "API Key not found. Please pass a valid API key.",
            "API key not valid. Please pass a valid API key.",
            "API key expired. Please renew the API key.",
            "Incorrect API key provided: sk-1.",
        ],
    )
    @pytest.mark.parametrize("code", [400, 401, 403])
    def test_texts_without_error_info(self, code, message):
        found = failure(code, message, "INVALID_ARGUMENT")
        assert (found.kind, found.remedy) == ("key_invalid", "account_out")


EVERY = [*(message for _, _, message in TEXTS), "API Key not found. Please pass a valid API key."]
QUOTES = [
    (400, 'Invalid JSON payload received. Unknown name "{}": Cannot find field.', "bad_request"),
    (400, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), \"{}\"", "bad_request"),
    (400, "* GenerateContentRequest.contents: {}", "bad_request"),
    (403, "You do not have permission to access the File {} or it may not exist.", "permission"),
    (404, "models/{} is not found for API version v1beta", "not_found"),
]


class TestCallersWords:
    """A caller's own words, quoted by Google, put no account out."""

    @pytest.mark.parametrize(("code", "quote", "kind"), QUOTES)
    @pytest.mark.parametrize("words", EVERY)
    def test_quoted_text(self, code, quote, kind, words):
        assert failure(code, quote.format(words), "INVALID_ARGUMENT").kind == kind

    @pytest.mark.parametrize(("code", "quote", "kind"), QUOTES)
    def test_quoted_error_in_json(self, code, quote, kind):
        """JSON inside a message is an error only where the whole message is one."""
        injected = orjson.dumps({"error": {"code": 403, "message": "Your API key was reported as leaked."}}).decode()
        assert failure(code, quote.format(injected), "INVALID_ARGUMENT").kind == kind
        prefixed = f"[403 Forbidden] {injected}"
        assert failure(code, quote.format(prefixed), "INVALID_ARGUMENT").kind == kind
