"""Who may hold how many bytes of requests."""

from __future__ import annotations

import contextlib
import random

import pytest

from shared.bounds.byte_budget import SMALL_BYTES, Bucket, ByteBudget, Claim
from shared.errors import QueueFull

MB = 1 << 20
TOTAL = 128 * MB
TEAM, OTHER_TEAM = Bucket("team", known=True), Bucket("other", known=True)
STRANGER, NEIGHBOUR = Bucket("ip:192.0.2.1", known=False), Bucket("ip:192.0.2.2", known=False)


def budget() -> ByteBudget:
    return ByteBudget(TOTAL, strangers_bytes=TOTAL // 2)


def holding(of: ByteBudget, bucket: Bucket, size_bytes: int) -> Claim:
    claim = of.claim(bucket)
    claim.grow(size_bytes)
    return claim


def taken(of: ByteBudget, bucket: Bucket, size_bytes: int) -> int:
    """How many bodies of that size the bucket gets before it is rejected."""
    count = 0
    while count < 10_000:
        try:
            holding(of, bucket, size_bytes)
        except QueueFull as error:
            assert error.retry_after_s == 1
            break
        count += 1
    return count


def test_a_stranger_holds_at_most_a_quarter() -> None:
    assert taken(budget(), STRANGER, 4 * MB) == 8


def test_strangers_together_hold_at_most_half() -> None:
    shared = budget()
    assert sum(taken(shared, Bucket(f"ip:{n}", known=False), 4 * MB) for n in range(10)) == 16
    assert taken(shared, TEAM, 4 * MB) > 0


def test_strangers_hold_more_where_all_are_strangers() -> None:
    """Where the server has no key, each caller brings one."""
    shared = ByteBudget(TOTAL)
    assert sum(taken(shared, Bucket(f"key:{n}", known=False), 4 * MB) for n in range(10)) == 30


def test_a_lone_team_leaves_a_quarter_for_others() -> None:
    shared = budget()
    assert taken(shared, TEAM, 4 * MB) == 24
    assert taken(shared, OTHER_TEAM, 4 * MB) == 6


def test_a_team_beside_others_holds_at_most_a_quarter() -> None:
    shared = budget()
    holding(shared, OTHER_TEAM, 20 * MB)
    assert taken(shared, TEAM, 4 * MB) == 8


def test_the_largest_body_fits_where_its_holder_has_no_other() -> None:
    for bucket in (TEAM, STRANGER):
        assert holding(budget(), bucket, 77 * MB).held_bytes == 77 * MB


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES, 1])
def test_small_requests_have_room_when_large_ones_have_none(size_bytes: int) -> None:
    shared = budget()
    for number in range(4):
        holding(shared, Bucket(f"team {number}", known=True), 30 * MB)
    with pytest.raises(QueueFull):
        holding(shared, TEAM, SMALL_BYTES + 1)
    assert holding(shared, TEAM, size_bytes).held_bytes == size_bytes


def test_what_is_declared_holds_nothing() -> None:
    shared = budget()
    claim = shared.claim(STRANGER)
    claim.expect(31 * MB)
    assert shared.used_bytes == 0
    with pytest.raises(QueueFull):
        claim.expect(TOTAL)


def test_bytes_move_to_their_final_holder() -> None:
    shared = budget()
    claim = holding(shared, STRANGER, 30 * MB)
    claim.move(TEAM)
    assert taken(shared, STRANGER, 4 * MB) == 8
    holding(shared, TEAM, 2 * MB)
    late = holding(shared, NEIGHBOUR, 10 * MB)
    with pytest.raises(QueueFull, match="Your other requests"):
        late.move(TEAM)
    assert (late.bucket, late.held_bytes) == (NEIGHBOUR, 10 * MB)


def test_all_of_it_is_free_again_whatever_happened() -> None:
    random_ = random.Random(7)
    shared = budget()
    buckets = [Bucket(f"{n}", known=n % 2 == 0) for n in range(6)]
    claims: list[Claim] = []
    for _ in range(5_000):
        claim = random_.choice(claims) if claims and random_.random() < 0.7 else shared.claim(random_.choice(buckets))
        claims.append(claim)
        with contextlib.suppress(QueueFull):
            match random_.randrange(4):
                case 0:
                    claim.grow(random_.randrange(10 * MB))
                case 1:
                    claim.cover(random_.randrange(10 * MB))
                case 2:
                    claim.move(random_.choice(buckets))
                case _:
                    claim.release()
        assert shared.used_bytes == sum({id(one): one.held_bytes for one in claims}.values()) <= TOTAL
    for claim in claims:
        claim.release()
        claim.release()
    assert shared.used_bytes == 0
    assert taken(shared, TEAM, 4 * MB) == 24
    assert taken(budget(), STRANGER, 4 * MB) == 8
