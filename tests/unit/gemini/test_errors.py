"""Google's failures, in its own words, and what the gateway is to do about each."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gemini.errors import (
    MAX_ERROR_BYTES,
    MAX_MESSAGE_CHARS,
    MAX_RETRY_DELAY_S,
    UpstreamFailure,
    Violation,
    read_error_frame,
    read_failure,
    redacted,
)
from shared.secret import Secret
from tests.support.google_errors import FREE_TEXT, HELP, METRIC, TYPE, error_info, failure, quota, retry, violation


class TestQuota:
    def test_a_paid_day_is_a_day_and_its_wait_is_the_exact_one(self):
        model = "gemini-3.1-flash-lite-image"
        found = failure(
            429,
            "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: "
            f"{METRIC}generate_requests_per_model_per_day, limit: 1000, model: {model}\n"
            "Please retry in 20h3m13.257628674s.",
            "RESOURCE_EXHAUSTED",
            [
                quota(
                    violation(
                        "generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel", "1000", model
                    )
                ),
                retry("72193s"),
            ],
        )
        assert (found.kind, found.remedy, found.status) == ("quota", "next_account", 429)
        assert found.violations == (Violation("requests", "day", 1000, model),)
        assert found.retry_delay_s == pytest.approx(72193.257628674)

    def test_free_minute_and_day_differ_by_quota_name(self):
        bullet = f"* Quota exceeded for metric: {METRIC}generate_content_free_tier_requests, limit: %d, model: m\n"
        found = failure(
            429,
            FREE_TEXT + bullet % 5 + bullet % 20 + "Please retry in 45.578569677s.",
            "RESOURCE_EXHAUSTED",
            [
                HELP,
                quota(
                    violation(
                        "generate_content_free_tier_requests",
                        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
                        "5",
                        "m",
                    ),
                    violation(
                        "generate_content_free_tier_requests",
                        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                        "20",
                        "m",
                    ),
                ),
                retry("45s"),
            ],
        )
        assert found.violations == (Violation("requests", "minute", 5, "m"), Violation("requests", "day", 20, "m"))
        assert found.retry_delay_s == pytest.approx(45.578569677)

    def test_a_day_is_a_day_although_its_wait_is_seconds(self):
        found = failure(
            429,
            FREE_TEXT,
            "RESOURCE_EXHAUSTED",
            [
                quota(
                    violation(
                        "generate_content_free_tier_requests",
                        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                        "20",
                        "m",
                    )
                ),
                retry("14.2s"),
            ],
        )
        assert (found.violations[0].period, found.retry_delay_s) == ("day", pytest.approx(14.2))

    def test_zero_limit_is_read_from_the_message(self):
        model = "gemini-4-argon"
        metrics = ("generate_content_free_tier_requests", "generate_content_free_tier_input_token_count")
        found = failure(
            429,
            FREE_TEXT
            + "".join(f"* Quota exceeded for metric: {METRIC}{m}, limit: 0, model: {model}\n" for m in metrics)
            + "Please retry in 59.9s.",
            "RESOURCE_EXHAUSTED",
            [
                HELP,
                quota(
                    violation(metrics[0], "GenerateRequestsPerDayPerProjectPerModel-FreeTier", None, model),
                    violation(metrics[0], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", None, model),
                    violation(metrics[1], "GenerateContentInputTokensPerModelPerMinute-FreeTier", None, model),
                ),
                retry("59s"),
            ],
        )
        assert found.violations == (
            Violation("requests", "day", 0, model),
            Violation("requests", "minute", 0, model),
            Violation("input_tokens", "minute", 0, model),
        )

    @pytest.mark.parametrize(
        ("metric", "quota_id", "dimension", "period"),
        [
            (
                "generate_content_free_tier_input_token_count",
                "GenerateContentInputTokensPerModelPerMinute-FreeTier",
                "input_tokens",
                "minute",
            ),
            (
                "generate_content_paid_tier_input_token_count",
                "GenerateContentPaidTierInputTokensPerModelPerMinute",
                "input_tokens",
                "minute",
            ),
            ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel", "requests", "minute"),
            (
                "embed_content_free_tier_requests",
                "EmbedContentRequestsPerDayPerUserPerProjectPerModel-FreeTier",
                "requests",
                "day",
            ),
            ("generate_images_per_model", "GenerateImagesPerMinutePerProjectPerModel", "images", "minute"),
            ("output_token_count", "OutputTokensPerMinute", "other", "minute"),
            ("something_new", "SomethingNew", "other", "other"),
            ("", "", "other", "other"),
        ],
    )
    def test_each_quota_has_a_dimension_and_a_period(self, metric, quota_id, dimension, period):
        found = failure(429, "x", "", [quota(violation(metric, quota_id, "7", "m"))])
        assert found.violations == (Violation(dimension, period, 7, "m"),)

    def test_without_details_the_messages_bullets_are_the_violations(self):
        found = failure(
            429,
            "You exceeded your current quota.\n* Quota exceeded for metric: "
            f"{METRIC}generate_requests_per_model_per_day, limit: 250, model: gemini-3-pro-image\n"
            f"* Quota exceeded for metric: {METRIC}generate_content_free_tier_requests, limit: 5\n",
        )
        assert found.violations == (
            Violation("requests", "day", 250, "gemini-3-pro-image"),
            Violation("requests", "other", 5, None),
        )

    def test_unnamed_quota_is_one_violation(self):
        found = failure(429, FREE_TEXT, "RESOURCE_EXHAUSTED", [HELP])
        assert (found.kind, found.violations) == ("quota", (Violation("other", "other"),))

    @pytest.mark.parametrize(
        "details",
        [
            [{"@type": TYPE + "QuotaFailure", "violations": None}],
            [{"@type": TYPE + "QuotaFailure", "violations": [None, 1, "x"]}],
            [{"@type": None}, None, 5],
            [quota({"quotaMetric": 1, "quotaId": None, "quotaValue": "-1", "quotaDimensions": []})],
            [retry("soon"), retry("1e400s"), {"@type": TYPE + "RetryInfo", "retryDelay": 5}],
        ],
    )
    def test_details_of_an_odd_shape_are_read_as_far_as_they_go(self, details):
        found = failure(429, "Resource exhausted", "RESOURCE_EXHAUSTED", details)
        assert found.kind in ("quota", "pressure")
        assert found.retry_delay_s is None

    def test_the_number_of_violations_has_a_bound(self):
        many = [violation("generate_requests_per_model", "PerMinute", "1", "m")] * 500
        assert len(failure(429, "x", "", [quota(*many)]).violations) == 32


class TestPressure:
    @pytest.mark.parametrize(
        "message",
        [
            "Resource has been exhausted (e.g. check quota).",
            "Resource exhausted, please try again later.",
            "No capacity available for model on the server",
        ],
    )
    def test_a_429_that_names_no_quota_is_pressure_that_is_shared(self, message):
        found = failure(429, message, "RESOURCE_EXHAUSTED")
        assert (found.kind, found.remedy, found.violations) == ("pressure", "next_account", ())

    def test_its_wait_is_kept(self):
        assert failure(429, "Resource exhausted", "", [retry("3.5s")]).retry_delay_s == 3.5


class TestAccount:
    @pytest.mark.parametrize(
        ("code", "message", "reason"),
        [
            (
                429,
                "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects ...",
                None,
            ),
            (429, "Your project has exceeded its monthly spending cap. Please go to AI Studio ...", None),
            (403, "Your API key was reported as leaked. Please use another API key.", None),
            (403, "Permission denied: Consumer 'api_key:AIzaSyExample' has been suspended.", "CONSUMER_SUSPENDED"),
            (403, "Permission denied: Consumer 'api_key:AIzaSyExample' has been suspended.", None),
        ],
    )
    def test_an_account_that_a_person_must_mend_is_out(self, code, message, reason):
        found = failure(code, message, "", [error_info(reason)] if reason else None)
        assert (found.kind, found.remedy, found.reason) == ("account", "account_out", reason)
        assert "AIzaSyExample" not in str(found)

    @pytest.mark.parametrize(
        ("code", "message", "reason"),
        [
            (400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
            (400, "API key expired. Please renew the API key.", "API_KEY_INVALID"),
            (400, "API key not valid. Please pass a valid API key.", None),
            (
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
                "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            ),
        ],
    )
    def test_a_key_that_is_none_is_out(self, code, message, reason):
        found = failure(code, message, "INVALID_ARGUMENT", [error_info(reason)] if reason else None)
        assert (found.kind, found.remedy) == ("key_invalid", "account_out")

    @pytest.mark.parametrize(
        ("code", "message", "reason"),
        [
            (
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key.",
                None,
            ),
            (403, "You do not have permission to access the File abc or it may not exist.", None),
            (401, "Request had invalid authentication credentials.", None),
            (400, "Multiple authentication credentials received. Please pass only one.", None),
        ],
    )
    def test_other_credential_trouble_keeps_the_account(self, code, message, reason):
        found = failure(code, message, "", [error_info(reason)] if reason else None)
        assert (found.kind, found.remedy) == ("permission", "next_account")

    @pytest.mark.parametrize(
        "words",
        ["API key not valid.", "Your API key was reported as leaked.", "Your prepayment credits are depleted"],
    )
    def test_quoted_caller_text_disables_no_account(self, words):
        quoted = failure(400, f'Invalid JSON payload received. Unknown name "{words}": Cannot find field.')
        assert (quoted.kind, quoted.remedy) == ("bad_request", "caller")
        elsewhere = failure(403, f"You do not have permission to access the File {words} or it may not exist.")
        assert (elsewhere.kind, elsewhere.remedy) == ("permission", "next_account")
        assert failure(404, f"{words} is not found").kind == "not_found"


class TestOthers:
    @pytest.mark.parametrize(
        ("code", "message", "kind", "remedy"),
        [
            (400, "* GenerateContentRequest.contents: contents is not specified", "bad_request", "caller"),
            (
                400,
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                "bad_request",
                "caller",
            ),
            (413, "Request Entity Too Large", "bad_request", "caller"),
            (
                404,
                "models/X is not found for API version v1beta, or is not supported for generateContent. Call "
                "ModelService.ListModels to see the list of available models and their supported methods.",
                "not_found",
                "next_account",
            ),
            (
                404,
                "This model models/gemini-2.5-flash is no longer available to new users. Please update your code to use "
                "models/gemini-3.8-flash ...",
                "not_found",
                "next_account",
            ),
            (404, "Requested entity was not found.", "not_found", "caller"),
            (
                500,
                "An internal error has occurred. Please retry or report in "
                "https://developers.generativeai.google/guide/troubleshooting",
                "server",
                "same_account",
            ),
            (500, "gemini-3.8-flash is currently experiencing high demand.", "overloaded", "same_account"),
            (502, "Bad gateway", "server", "same_account"),
            (499, "The operation was cancelled.", "server", "same_account"),
            (503, "The model is overloaded. Please try again later.", "overloaded", "same_account"),
            (
                503,
                "This model is currently experiencing high demand. Spikes in demand are usually temporary. Please try "
                "again later.",
                "overloaded",
                "same_account",
            ),
            (504, "Deadline expired before operation could complete.", "deadline", "same_account"),
            (504, "The service is unable to finish processing within the deadline.", "deadline", "same_account"),
        ],
    )
    def test_each_has_a_kind_a_remedy_and_googles_words(self, code, message, kind, remedy):
        found = failure(code, message)
        assert (found.kind, found.remedy, found.status, found.message) == (kind, remedy, code, message)
        assert found.written is True

    def test_the_reason_is_error_infos(self):
        assert failure(403, "x", "", [HELP, error_info("SERVICE_DISABLED")]).reason == "SERVICE_DISABLED"
        assert failure(403, "x", "", [error_info("not a reason; drop it")]).reason is None


class TestBodies:
    def test_an_error_in_an_array_is_that_error(self):
        body = orjson.dumps([{"error": {"code": 429, "message": "Resource exhausted", "details": [retry("2s")]}}])
        found = read_failure(429, body, {})
        assert (found.kind, found.retry_delay_s) == ("pressure", 2.0)

    def test_an_error_framed_as_an_event_is_that_error(self):
        found = read_failure(503, b'data: {"error": {"code": 503, "message": "Overloaded."}}\r\n\r\n', {})
        assert found.message == "Overloaded."

    @pytest.mark.parametrize(
        ("status", "body", "kind", "reason"),
        [
            (
                401,
                {"error": {"message": "Incorrect API key provided: sk-***", "type": "x", "code": "invalid_api_key"}},
                "key_invalid",
                "invalid_api_key",
            ),
            (
                429,
                {
                    "error": {
                        "message": "Rate limit reached",
                        "type": "requests",
                        "param": None,
                        "code": "rate_limit_exceeded",
                    }
                },
                "pressure",
                "rate_limit_exceeded",
            ),
            (429, {"error": {"message": "No credit", "code": "insufficient_quota"}}, "account", "insufficient_quota"),
            (400, {"error": "a text"}, "bad_request", None),
            (500, {"message": "a text"}, "server", None),
        ],
    )
    def test_errors_in_other_formats_are_read(self, status, body, kind, reason):
        found = read_failure(status, orjson.dumps(body), {})
        assert (found.kind, found.reason) == (kind, reason)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<!DOCTYPE html><title>Error 502</title>",
            b"\xff\xfe",
            b"null",
            b"[]",
            b"[1]",
            b'"text"',
            b"{}",
            b'{"error": null}',
            b'{"error": {"message": "' + b"x" * MAX_ERROR_BYTES + b'"}}',
        ],
        ids=lambda body: str(body[:12]),
    )
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, "bad_request"),
            (403, "permission"),
            (404, "not_found"),
            (429, "pressure"),
            (502, "server"),
            (302, "malformed"),
        ],
    )
    def test_without_a_readable_error_the_status_decides(self, status, kind, body):
        found = read_failure(status, body, {"Retry-After": "7"})
        assert (found.kind, found.retry_delay_s) == (kind, 7.0)
        assert str(status) in found.message

    @given(st.integers(300, 599), st.binary(max_size=300))
    def test_any_body_is_some_failure(self, status, body):
        assert read_failure(status, body, {}).status == status

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "error",
                            "message",
                            "details",
                            "@type",
                            "violations",
                            "retryDelay",
                            "code",
                            "quotaValue",
                            "quotaMetric",
                            "metadata",
                            "consumer",
                            "quota_limit",
                            "quota_limit_value",
                            "raw",
                            "errors",
                            "subject",
                            "seconds",
                            "status",
                            "reason",
                        ]
                    ),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=20,
        )
    )
    def test_any_json_is_some_failure(self, value):
        nested = orjson.dumps({"error": {"message": orjson.dumps(value).decode()}})
        readings = (
            read_failure(429, orjson.dumps(value), {}),
            read_failure(429, nested, {}),
            read_error_frame({"error": value}, {}),
        )
        for found in readings:
            assert len(found.message) <= MAX_MESSAGE_CHARS

    def test_a_frames_error_has_the_status_that_it_names(self):
        assert read_error_frame({"error": {"code": 503, "message": "x"}}, {}).kind == "overloaded"
        assert read_error_frame({"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, {}).kind == "pressure"
        assert read_error_frame({"error": {"code": 7, "message": "x"}}, {}).kind == "server"
        assert read_error_frame({"error": None}, {}).status == 500


class TestWaits:
    @pytest.mark.parametrize(
        ("sentence", "seconds"),
        [
            ("Please retry in 45.578569677s.", 45.578569677),
            ("Please retry in 20h3m13.257628674s.", 72193.257628674),
            ("Please retry in 3m2s.", 182),
            ("Please retry in 612.345678ms.", 0.612345678),
            ("Please retry in 612ms.", 0.612),
            ("Please retry in 1h.", 3600),
            ("Please retry in a while.", None),
            ("Please try again later.", None),
        ],
    )
    def test_the_messages_wait_is_read(self, sentence, seconds):
        assert failure(429, "Resource exhausted. " + sentence).retry_delay_s == (
            None if seconds is None else pytest.approx(seconds)
        )

    def test_the_header_counts_only_where_the_body_has_none(self):
        assert failure(503, "x", **{"retry-after": "9"}).retry_delay_s == 9
        assert failure(503, "x", "", [retry("2s")], **{"retry-after": "9"}).retry_delay_s == 2

    def test_a_wait_has_a_bound(self):
        assert failure(429, "x", "", [retry("999999999999s")]).retry_delay_s == MAX_RETRY_DELAY_S
        assert failure(429, "x", **{"Retry-After": "9" * 400}).retry_delay_s == MAX_RETRY_DELAY_S


class TestSecrets:
    @pytest.mark.parametrize(
        "secret",
        [
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "AQ.Ab8RN6I_xyz-123",
            "ya29.a0AfB_byC-secret",
            "sk-proj-abc123DEF456",
        ],
    )
    @pytest.mark.parametrize(
        "text",
        [
            "Permission denied: Consumer 'api_key:{}' has been suspended.",
            "See https://host/v1beta/models?key={}&alt=sse for more.",
            "key={} is wrong",
            "Authorization: Bearer {}",
            "{}",
            'The key "{}" is wrong, {}.',
        ],
    )
    def test_nothing_that_looks_like_a_key_is_in_a_message(self, text, secret):
        assert secret not in redacted(text.format(secret, secret))
        assert secret[8:] not in redacted(text.format(secret, secret))
        assert secret not in repr(UpstreamFailure("server", text.format(secret, secret)))

    def test_sent_key_of_any_form_is_redacted(self):
        body = orjson.dumps({"error": {"code": 400, "message": "no such key: house-of-cards"}})
        assert "house-of-cards" not in str(read_failure(400, body, {}, secret=Secret("house-of-cards")))

    def test_a_consumer_is_erased_whatever_it_looks_like(self):
        assert redacted("Consumer 'api_key:odd one'") == "Consumer 'api_key:*** one'"
        assert redacted("Consumer 'api_key:abc'") == "Consumer 'api_key:***'"

    def test_urls_lose_their_query_and_their_user(self):
        assert redacted("see https://u:p@host/a?b=c#d 'or'") == "see https://host/a 'or'"
        assert redacted("see https://host/a?b=c, ok") == "see https://host/a ok"

    @pytest.mark.parametrize(
        "text",
        [
            FREE_TEXT,
            f"* Quota exceeded for metric: {METRIC}generate_content_free_tier_input_token_count, limit: 250000",
            "GenerateContentPaidTierInputTokensPerModelPerMinute-FreeTier",
            "models/gemini-2.5-flash-native-audio-preview-09-2025 is not found for API version v1beta",
            "* GenerateContentRequest.contents[0].parts: contents is not specified",
        ],
    )
    def test_google_own_words_stay_as_they_are(self, text):
        assert redacted(text) == text

    def test_a_message_has_a_bound_and_costs_no_more_than_its_length(self):
        assert len(redacted("a-" * 500_000)) <= MAX_MESSAGE_CHARS
        assert len(redacted("https://" * 500_000)) <= MAX_MESSAGE_CHARS
        assert len(failure(500, "x" * 100_000).message) <= MAX_MESSAGE_CHARS
