"""Which errors an operation may return, and what they mean."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from shared import errors
from shared.errors import CallerGone, GatewayError, MethodNotAllowed, StaleConfiguration
from shared.openapi.failures import FAILURES, Trait, failures, tree

ALL_TRAITS = set(get_args(Trait))


def test_every_error_has_a_row() -> None:
    assert FAILURES.keys() == set(tree())


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"^[│├└─ ]+(\w+)(?: (\d{3}))? +([a-z_]+)", errors.__doc__ or "", re.MULTILINE)
    real = [error for error in tree() if error is not GatewayError]
    assert {(name, code) for name, _, code in drawn} == {(error.__name__, error.code) for error in real}
    assert {(name, int(status)) for name, status, _ in drawn if status} <= {(e.__name__, e.status) for e in real}


def test_every_error_is_returned_by_some_operation() -> None:
    """Except one that is never sent, one for methods without an operation, and one that no path of the API returns yet."""
    returned = {error for possible in failures(ALL_TRAITS).values() for error in possible}
    assert set(tree()) - returned == {MethodNotAllowed, CallerGone, StaleConfiguration}


@pytest.mark.parametrize(
    ("traits", "statuses"),
    [
        ({"always"}, {500, 503}),
        ({"always", "credential"}, {400, 401, 500, 503}),
        ({"always", "body"}, {400, 413, 415, 500, 503}),
        ({"always", "path"}, {404, 500, 503}),
        ({"always", "query"}, {400, 500, 503}),
        ({"always", "range"}, {416, 500, 503}),
        ({"always", "pending"}, {409, 500, 503}),
        (ALL_TRAITS, {400, 401, 403, 404, 409, 413, 415, 416, 429, 500, 502, 503, 504}),
    ],
)
def test_traits_determine_the_statuses(traits: set[Trait], statuses: set[int]) -> None:
    assert set(failures(traits)) == statuses


def test_generating_may_be_rate_limited() -> None:
    assert failures({"generation"})[429] == [errors.RateLimited, errors.QueueTimeout, errors.DailyQuotaExhausted]
    assert 429 not in failures({"always", "body", "credential"})
