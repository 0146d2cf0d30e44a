from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.gateway.limits import Rate, TokenBuckets

STEPS = st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60)


class PlainBucket:
    """A token bucket as it is usually told: tokens that drip in, up to a brim."""

    def __init__(self, rate: Rate) -> None:
        self.rate, self.tokens, self.at = rate, float(rate.burst), 0.0

    def take(self, now: float) -> bool:
        dripped = (now - self.at) * self.rate.per_second
        self.tokens, self.at = min(self.rate.burst, self.tokens + dripped), now
        if self.tokens >= 1 - 1e-6:
            self.tokens -= 1
            return True
        return False


@given(st.integers(1, 20), st.integers(1, 8), STEPS)
def test_it_is_a_token_bucket(per_second, burst, steps):
    rate = Rate(per_second / 4, burst)
    buckets, plain, now = TokenBuckets(rate), PlainBucket(rate), 0.0
    for step in steps:
        now += round(step * 8) / 8
        assert (buckets.take("k", now) == 0.0) is plain.take(now)


@given(st.floats(0.1, 50), st.integers(1, 10), STEPS)
def test_no_key_gets_more_than_its_burst_and_rate(per_second, burst, steps):
    buckets = TokenBuckets(Rate(per_second, burst))
    now, taken = 0.0, []
    for step in steps:
        now += step / 10
        if buckets.take("k", now) == 0.0:
            taken.append(now)
    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= burst + per_second * (taken[j] - start) + 1e-6


@given(st.floats(0.1, 50), st.integers(1, 5))
def test_waiting_as_long_as_it_says_is_enough(per_second, burst):
    buckets = TokenBuckets(Rate(per_second, burst))
    for _ in range(burst):
        assert buckets.take("k", 5.0) == 0.0
    wait = buckets.take("k", 5.0)
    assert 0 < wait <= 1 / per_second + 1e-9
    assert buckets.take("k", 5.0 + wait) == 0.0
    assert buckets.refused == 1


def test_keys_do_not_share():
    buckets = TokenBuckets(Rate(1, 1))
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 0.0) > 0


def test_a_flood_of_keys_neither_grows_the_table_nor_resets_a_limit():
    buckets = TokenBuckets(Rate(1, 2), capacity=10)
    now = 100.0
    for _ in range(2):
        assert buckets.take("mine", now) == 0.0
    let_through = sum(buckets.take(f"k{i}", now + i * 1e-4) == 0.0 for i in range(5_000))
    assert len(buckets) <= 10
    # Nine more fit; after that all newcomers together get what one key gets.
    assert let_through <= 9 + 2 + 1
    assert buckets.take("mine", now + 0.5) > 0


def test_what_is_idle_makes_room_again():
    buckets = TokenBuckets(Rate(10, 1), capacity=4)
    for i in range(4):
        assert buckets.take(f"old{i}", 0.0) == 0.0
    for i in range(4):
        assert buckets.take(f"new{i}", 10.0) == 0.0
    assert len(buckets) == 4


@pytest.mark.parametrize("rate", [(0, 1), (-1, 1), (1, 0), (float("nan"), 1), (float("inf"), 1)])
def test_a_limit_that_limits_nothing_is_refused(rate):
    with pytest.raises(InputError):
        Rate(*rate)
