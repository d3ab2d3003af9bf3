"""How long Gemini asks to wait, in each form and under each status."""

from __future__ import annotations

import orjson
import pytest

from shared.gemini.delays import header_delay_s, sentence_delay_s
from shared.gemini.errors import MAX_RETRY_DELAY_S, read_error_frame, read_failure
from tests.support.google_errors import error_info, failure, retry

SINCE = "Sun, 06 Nov 1994 08:49:37 GMT"
SINCE_S = 784111777.0
STATUSES = pytest.mark.parametrize("code", [429, 500, 503, 504])


@STATUSES
class TestStatuses:
    """The delay is the same whatever the status is."""

    def test_retry_info(self, code):
        assert failure(code, "x", "", [retry("25.46s")]).retry_delay_s == 25.46

    def test_header_in_seconds(self, code):
        assert failure(code, "x", **{"Retry-After": "7"}).retry_delay_s == 7

    def test_header_as_a_date(self, code):
        headers = {"Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT", "Date": SINCE}
        assert failure(code, "x", **headers).retry_delay_s == 30

    def test_header_in_milliseconds(self, code):
        assert failure(code, "x", **{"retry-after-ms": "1500"}).retry_delay_s == 1.5

    def test_sentence(self, code):
        assert failure(code, "Overloaded. Please retry in 1m2.5s.").retry_delay_s == 62.5

    def test_html_page(self, code):
        page = b"<html><title>Error</title><p>Please try again in <b>30</b> seconds.</html>"
        assert read_failure(code, page, {}).retry_delay_s == 30

    def test_none_is_invented(self, code):
        assert failure(code, "The model is overloaded. Please try again later.").retry_delay_s is None


class TestRetryInfo:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("7s", 7),
            ("0s", 0),
            ("25.465784708s", 25.465784708),
            ({"seconds": 25, "nanos": 460_000_000}, 25.46),
            ({"seconds": "25", "nanos": 0}, 25),
            ({"seconds": 3}, 3),
            ({"nanos": 250_000_000}, 0.25),
            ({}, None),
            ({"seconds": -3}, None),
            ({"seconds": "soon"}, None),
            ("7", None),
            ("-7s", None),
            (7, None),
            (None, None),
        ],
    )
    def test_durations_of_protobuf(self, value, seconds):
        found = failure(429, "x", "", [retry(value)]).retry_delay_s
        assert found == (None if seconds is None else pytest.approx(seconds))

    def test_snake_case_and_no_type(self):
        assert failure(429, "x", "", [{"retry_delay": {"seconds": 4}}]).retry_delay_s == 4
        assert failure(429, "x", "", [{"retryDelay": "4s"}]).retry_delay_s == 4

    def test_quota_reset_delay(self):
        assert failure(429, "x", "", [error_info("X", quotaResetDelay="2h31m20.5s")]).retry_delay_s == 9080.5

    def test_frame_of_a_stream(self):
        frame = {"error": {"code": 503, "message": "x", "details": [retry("9s")]}}
        assert read_error_frame(frame, {}).retry_delay_s == 9


class TestSentence:
    @pytest.mark.parametrize(
        ("sentence", "seconds"),
        [
            ("Please retry in 25.4s.", 25.4),
            ("Please retry in 1h2m3s.", 3723),
            ("Please retry in 1h2m3.5s", 3723.5),
            ("Please retry in 548.431ms.", 0.548431),
            ("Please try again in 7 seconds.", 7),
            ("Please try again in 30 seconds.  That's all we know.", 30),
            ("try again in 6m0s", 360),
            ("Try again after 2 minutes and 3 seconds", 123),
            ("Retry after 90 secs", 90),
            ("Please wait 5 minutes", 300),
            ("Please wait for 5 minutes", 300),
            ("Your quota will reset after 2h31m20s.", 9080),
            ("retrying in 1 day", 86400),
            ("Please retry your request in about 10 s", 10),
            ("Please retry in 5", None),
            ("Please retry in 5 apples", None),
            ("Please retry in a while.", None),
            ("Please wait a minute.", None),
            ("in 7 seconds", None),
            ("", None),
        ],
    )
    def test_amounts(self, sentence, seconds):
        assert sentence_delay_s(sentence) == (None if seconds is None else pytest.approx(seconds))

    def test_longer_of_sentence_and_retry_info_holds(self):
        assert failure(429, "Please retry in 25.465784708s.", "", [retry("25s")]).retry_delay_s == 25.465784708
        assert failure(429, "Please retry in 2s.", "", [retry("25s")]).retry_delay_s == 25

    def test_long_text_costs_no_more_than_its_length(self):
        assert sentence_delay_s("retry in " * 20_000) is None
        assert sentence_delay_s("retry in " + "1" * 20_000) is None


class TestHeader:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0),
            ("7", 7),
            (" 7 ", 7),
            ("7.25", 7.25),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
            ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
            ("Sun Nov  6 08:50:07 1994", 30),
            ("Sun, 06 Nov 1994 09:50:07 +0100", 30),
            ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
            ("Wed, 21 Oct 2037 07:28:00 GMT", MAX_RETRY_DELAY_S),
            ("-7", None),
            ("1e3", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:50:07 GMT", None),
            ("Sun, 06 Nov 99999999999999 08:50:07 GMT", None),
            ("٧", None),
            ("", None),
        ],
    )
    def test_seconds_and_the_three_dates(self, value, seconds):
        assert header_delay_s({"Retry-After": value, "Date": SINCE}) == seconds

    def test_date_is_relative_to_the_answers_date(self):
        headers = {"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": SINCE}
        assert header_delay_s(headers, now_s=SINCE_S + 10_000) == 30

    def test_without_a_date_header_the_wall_clock_counts(self):
        headers = {"Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT"}
        assert header_delay_s(headers, now_s=SINCE_S) == 30
        assert header_delay_s({**headers, "Date": "never"}, now_s=SINCE_S) == 30
        assert header_delay_s(headers) is None

    def test_clock_reaches_every_reader(self):
        headers = {"Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT"}
        error = {"error": {"code": 503, "message": "x"}}
        assert read_failure(503, orjson.dumps(error), headers, now_s=SINCE_S).retry_delay_s == 30
        assert read_failure(503, b"<html>", headers, now_s=SINCE_S).retry_delay_s == 30
        assert read_error_frame(error, headers, now_s=SINCE_S).retry_delay_s == 30

    def test_milliseconds_go_first(self):
        assert header_delay_s({"retry-after-ms": "700", "Retry-After": "1"}) == 0.7
        assert header_delay_s({"retry-after-ms": "soon", "Retry-After": "1"}) == 1

    def test_bound(self):
        assert header_delay_s({"Retry-After": "9" * 400}) == MAX_RETRY_DELAY_S
        assert header_delay_s({"retry-after-ms": "9" * 400}) == MAX_RETRY_DELAY_S
