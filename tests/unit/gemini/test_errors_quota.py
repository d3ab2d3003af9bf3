"""Which quota a 429 or a 503 names: in QuotaFailure, in ErrorInfo, in bullets, in a sentence, or not at all."""

from __future__ import annotations

import pytest

from shared.gemini.errors import Violation
from tests.support.google_errors import FREE_TEXT, HELP, METRIC, failure, quota, violation
from tests.support.google_errors import error_info as info

REGION = "GenerateContentRequestsPerMinutePerProjectPerRegion"
REGION_TEXT = (
    "Quota exceeded for quota metric 'Generate Content API requests per minute' and limit 'GenerateContent request limit "
    "per minute for a region' of service 'generativelanguage.googleapis.com' for consumer 'project_number:1'."
)
SPEND_TEXT = (
    "You exceeded your spend-based rate limit. Your spending rate has exceeded the allowed limit for your account's "
    "billing history and tier."
)


def region(**metadata: object) -> dict:
    return info(
        "RATE_LIMIT_EXCEEDED",
        **{"quota_limit": REGION, "quota_metric": METRIC + "generate_content_requests", **metadata},
    )


def only(*violations: Violation):
    return ("quota", violations)


def read(code: int, message: str, details: list | None = None):
    found = failure(code, message, "RESOURCE_EXHAUSTED" if code == 429 else "UNAVAILABLE", details)
    return (found.kind, found.violations)


class TestErrorInfo:
    @pytest.mark.parametrize("code", [429, 503])
    @pytest.mark.parametrize("value", ["15", 15, 15.0, "15.0"])
    def test_region_quota_is_a_limit_of_the_minute(self, code, value):
        found = read(code, REGION_TEXT, [region(quota_limit_value=value), HELP])
        assert found == only(Violation("requests", "minute", 15))

    @pytest.mark.parametrize("value", ["0", 0, 0.0])
    def test_region_quota_of_zero_is_zero(self, value):
        assert read(429, REGION_TEXT, [region(quota_limit_value=value)]) == only(Violation("requests", "minute", 0))

    @pytest.mark.parametrize("value", [None, "", "-1", -1, True, "many", [], "9" * 30])
    def test_invalid_quota_value_is_unknown(self, value):
        assert read(429, "x", [region(quota_limit_value=value)]) == only(Violation("requests", "minute", None))

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({"quota_limit": "ApiRequestsPerMinutePerProjectPerRegion"}, Violation("requests", "minute")),
            ({"quota_metric": "api_requests", "quota_unit": "1/min/{project}/{region}"}, Violation("requests", "minute")),
            ({"quota_metric": METRIC + "api_requests", "quota_unit": "1/d/{project}"}, Violation("requests", "day")),
            ({"quota_limit": "GenerateContentInputTokensPerModelPerDay-FreeTier"}, Violation("input_tokens", "day")),
            ({"quota_limit": "EmbedContentRequestsPerMinutePerProjectPerModel"}, Violation("requests", "minute")),
            # A quota of its own, which counts batches and not their requests.
            (
                {"quota_limit": "BatchEmbedContentsRequestsPerMinutePerProjectPerRegion", "quota_limit_value": "150"},
                Violation("batches", "minute", 150),
            ),
            ({"quota_limit": "SpendPer10MinutesPerProject", "quota_limit_value": "10"}, Violation("spend", "other", 10)),
            ({"quota_metric": METRIC + "project_budget"}, Violation("spend", "other")),
        ],
    )  # fmt: skip
    def test_name_or_unit_says_what_is_counted(self, metadata, expected):
        assert read(429, "x", [info("RATE_LIMIT_EXCEEDED", **metadata)]) == only(expected)

    def test_quota_failure_goes_before_error_info(self):
        named = quota(
            violation("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel", "9", "m")
        )
        found = read(429, "x", [region(quota_limit_value="15"), named])
        assert found == only(Violation("requests", "day", 9, "m"))

    def test_error_info_fills_in_a_missing_value(self):
        named = quota(violation("generate_content_requests", REGION, None, "m"))
        found = read(429, "x", [named, region(quota_limit_value="0")])
        assert found == only(Violation("requests", "minute", 0, "m"))

    def test_details_without_types_are_read_by_their_fields(self):
        untyped = {name: value for name, value in region(quota_limit_value="15").items() if name != "@type"}
        assert read(429, "x", [untyped]) == only(Violation("requests", "minute", 15))

    def test_snake_case_details_are_read(self):
        entry = {
            "quota_metric": METRIC + "generate_content_free_tier_requests",
            "quota_id": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
            "quota_dimensions": {"model": "m"},
            "quota_value": 20,
        }
        assert read(429, "x", [quota(entry)]) == only(Violation("requests", "day", 20, "m"))


class TestText:
    def test_sentence_names_the_quota(self):
        assert read(429, REGION_TEXT) == only(Violation("requests", "minute"))

    def test_sentence_may_carry_the_limit(self):
        text = f"Quota exceeded for quota metric 'Generate requests' and limit '{REGION}' limit: 0"
        assert read(429, text) == only(Violation("requests", "minute", 0))

    def test_sentence_of_a_day(self):
        text = (
            "Quota exceeded for quota metric 'Gemini 3 Pro Requests' and limit 'Gemini 3 Pro Requests per day per user per "
            "tier' of service 'x' for consumer 'project_number:1'."
        )
        assert read(429, text) == only(Violation("requests", "day"))

    @pytest.mark.parametrize("text", ["You exceeded your current quota, please check your plan.", "Quota exceeded."])
    @pytest.mark.parametrize("code", [429, 503])
    def test_unnamed_quota_is_still_a_quota(self, code, text):
        assert read(code, text) == only(Violation("other", "other"))

    def test_reason_alone_is_a_quota(self):
        assert read(429, "x", [info("RATE_LIMIT_EXCEEDED")]) == only(Violation("other", "other"))

    def test_no_quota_is_pressure_or_overload(self):
        assert read(429, "Resource exhausted. Please try again later.") == ("pressure", ())
        assert read(503, "The model is overloaded. Please try again later.") == ("overloaded", ())

    def test_other_statuses_have_no_quota(self):
        assert read(500, FREE_TEXT) == ("server", ())


class TestZero:
    """A limit of zero: the project has no quota for this model."""

    METRICS = ("generate_content_free_tier_input_token_count", "generate_content_free_tier_requests")
    IDS = (
        (METRICS[0], "GenerateContentInputTokensPerModelPerMinute-FreeTier"),
        (METRICS[1], "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        (METRICS[1], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
        (METRICS[0], "GenerateContentInputTokensPerModelPerDay-FreeTier"),
    )

    def bullets(self, *metrics: str) -> str:
        return FREE_TEXT + "".join(
            f"* Quota exceeded for metric: {METRIC}{metric}, limit: 0, model: m\n" for metric in metrics
        )

    @pytest.mark.parametrize(
        "metrics", [(*METRICS, *METRICS[::-1]), METRICS], ids=["a bullet each", "a bullet per metric"]
    )
    def test_absent_values_are_zero_where_the_bullets_say_so(self, metrics):
        entries = [violation(metric, quota_id, None, "m") for metric, quota_id in self.IDS]
        _, violations = read(429, self.bullets(*metrics), [HELP, quota(*entries)])
        assert [(v.dimension, v.period, v.limit, v.model) for v in violations] == [
            ("input_tokens", "minute", 0, "m"),
            ("requests", "day", 0, "m"),
            ("requests", "minute", 0, "m"),
            ("input_tokens", "day", 0, "m"),
        ]

    @pytest.mark.parametrize("value", ["0", 0])
    def test_stated_zero_is_zero(self, value):
        found = read(429, "x", [quota(violation("generate_requests_per_model", "PerMinute", value, "m"))])
        assert found == only(Violation("requests", "minute", 0, "m"))

    def test_bullets_alone(self):
        _, violations = read(429, self.bullets(*self.METRICS))
        assert [violation.limit for violation in violations] == [0, 0]

    def test_absent_without_a_bullet_is_unknown(self):
        found = read(429, FREE_TEXT, [quota(violation("generate_requests_per_model", "PerMinute", None, "m"))])
        assert found == only(Violation("requests", "minute", None, "m"))

    def test_bullets_that_disagree_do_not_fill_in(self):
        bullet = f"* Quota exceeded for metric: {METRIC}generate_requests, limit: %d, model: m\n"
        entries = [violation("generate_requests", name, None, "m") for name in ("PerMinute", "PerDay", "PerHour")]
        _, violations = read(429, FREE_TEXT + bullet % 5 + bullet % 20, [quota(*entries)])
        assert [violation.limit for violation in violations] == [5, 20, None]

    def test_stated_value_keeps_its_bullet(self):
        """The value that one violation states is not taken for the other one's."""
        bullet = f"* Quota exceeded for metric: {METRIC}generate_requests, limit: %d, model: m\n"
        entries = [
            violation("generate_requests", "RequestsPerDay", None, "m"),
            violation("generate_requests", "RequestsPerMinute", "5", "m"),
        ]
        _, violations = read(429, FREE_TEXT + bullet % 5 + bullet % 0, [quota(*entries)])
        assert [(v.period, v.limit) for v in violations] == [("day", 0), ("minute", 5)]


class TestSpend:
    @pytest.mark.parametrize(
        ("message", "details"),
        [
            (SPEND_TEXT, None),
            ("Your project has exceeded its spending limit for the last 10 minutes.", None),
            ("The budget of this project is used up for now.", None),
            ("Resource has been exhausted.", [info("SPEND_RATE_LIMIT_EXCEEDED")]),
            ("Resource has been exhausted.", [info("RATE_LIMIT_EXCEEDED", quota_limit="SpendPerTenMinutesPerProject")]),
            ("Resource has been exhausted.", [info("RATE_LIMIT_EXCEEDED", quota_metric=METRIC + "spend_per_10_minutes")]),
            ("x", [quota(violation("project_spend", "SpendRatePerProject-Tier1", "10", "m"))]),
            ("x", [quota(violation("generate_usd", "BudgetPerProject", None, "m"))]),
        ],
    )  # fmt: skip
    def test_spend_is_a_quota_of_its_own(self, message, details):
        kind, violations = read(429, message, details)
        assert (kind, violations[-1].dimension) == ("quota", "spend")

    def test_spend_beside_another_quota(self):
        named = quota(violation("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel", "5", "m"))
        _, violations = read(429, SPEND_TEXT, [named])
        assert violations == (Violation("requests", "minute", 5, "m"), Violation("spend", "other"))

    @pytest.mark.parametrize(
        "message",
        [
            "You exceeded your current quota. To see your spend, head to: https://ai.studio/spend",
            "You exceeded your current quota. See https://ai.studio/budget.",
        ],
    )
    def test_link_to_a_spend_page_is_not_a_spend_limit(self, message):
        message = message.replace("To see your spend, ", "")
        assert read(429, message) == only(Violation("other", "other"))

    @pytest.mark.parametrize(
        ("message", "details"),
        [
            (
                "Your project has exceeded its monthly spending cap. Please go to AI Studio at https://ai.studio/spend.",
                None,
            ),
            ("Your billing account has reached its monthly spend cap.", None),
            ("Spend cap exceeded for this project.", None),
            ("Resource has been exhausted.", [info("MONTHLY_SPENDING_CAP_EXCEEDED")]),
            ("Resource has been exhausted.", [info("SPENDING_CAP_EXCEEDED")]),
        ],
    )
    def test_monthly_cap_puts_the_account_out(self, message, details):
        found = failure(429, message, "RESOURCE_EXHAUSTED", details)
        assert (found.kind, found.remedy, found.violations) == ("account", "account_out", ())
