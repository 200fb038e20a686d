# SPDX-License-Identifier: GPL-2.0-or-later
"""Buckets: for every weight vector the shares are right, and as smoothly interleaved as whole buckets can be."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dataplane import buckets, pool

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=5), st.integers(0, 256), min_size=1, max_size=40
).filter(lambda weights: any(weights.values()))
EXTREME = st.integers(1, 255).flatmap(
    lambda heavy: st.fixed_dictionaries(
        {f"b{number:03}": st.just(256 if number < heavy else 1) for number in range(256)}
    )
)
SIZES = (*pool.TURNS,)
# How long one example takes depends on who else uses the machine.
unhurried = settings(deadline=None)


def ideals(weights, size):
    total = sum(weights.values())
    return {name: Fraction(size * weight, total) for name, weight in weights.items() if weight}


@unhurried
@given(WEIGHTS)
def test_shares_are_within_one_bucket_of_ideal_and_sum_to_the_size(weights):
    size = buckets.size_for(weights.values(), SIZES)
    counts = buckets.counts(weights, size)
    assert sum(counts.values()) == size
    for name, ideal in ideals(weights, size).items():
        assert abs(counts[name] - ideal) < 1
        assert counts[name] >= 1
    assert Counter(buckets.fill(weights, size)) == counts


@unhurried
@given(EXTREME)
def test_256_backends_of_the_most_uneven_weights_are_within_one_bucket_too(weights):
    size = buckets.size_for(weights.values(), SIZES)
    counts = buckets.counts(weights, size)
    assert sum(counts.values()) == size
    assert all(abs(counts[name] - ideal) < 1 <= counts[name] for name, ideal in ideals(weights, size).items())


@unhurried
@given(WEIGHTS, st.integers(0, 200))
def test_any_run_of_buckets_has_each_backend_nearly_as_often_as_its_share(weights, extra):
    size = max(sum(1 for weight in weights.values() if weight), 1) + extra
    sequence = buckets.fill(weights, size)
    for name, count in buckets.counts(weights, size).items():
        share = Fraction(count, size)
        lags = [Fraction(0)]
        for who in sequence:
            lags.append(lags[-1] + (who == name) - share)
        # A prefix is less than 1 from its share; so a run between any two points, around the end too, is less than 2.
        assert all(abs(lag) < 1 for lag in lags)
        assert lags[-1] == 0


@unhurried
@given(WEIGHTS)
def test_an_exact_size_gives_exact_shares(weights):
    length = buckets.cycle(weights.values())
    for size in buckets.exact_sizes(length, SIZES)[:2]:
        counts = buckets.counts(weights, size)
        assert all(counts[name] == ideal for name, ideal in ideals(weights, size).items())


@unhurried
@given(WEIGHTS)
def test_the_order_in_which_weights_are_named_does_not_matter(weights):
    size = buckets.size_for(weights.values(), SIZES)
    assert buckets.fill(weights, size) == buckets.fill(dict(reversed(weights.items())), size)


@pytest.mark.parametrize("backends", [1, 2, 3, 7, 16, 64, 256])
def test_equal_weights_are_a_plain_rotation(backends):
    weights = {f"b{number:03}": 5 for number in range(backends)}
    assert buckets.fill(weights, 2 * backends) == 2 * list(weights)


def test_examples():
    assert buckets.fill({"a": 2, "b": 1}, 3) in (["a", "b", "a"], ["a", "a", "b"])
    assert Counter(buckets.fill({"a": 3, "b": 1}, 4)) == {"a": 3, "b": 1}
    # Nobody waits for a burst to end: 5 of a and 5 of b alternate.
    assert buckets.fill({"a": 5, "b": 5}, 10) == ["a", "b"] * 5
    assert buckets.fill({"a": 1, "b": 0, "c": 1}, 2) == ["a", "c"]


@pytest.mark.parametrize(("weights", "size"), [({}, 4), ({"a": 0}, 4), ({"a": 1, "b": 1, "c": 1}, 2)])
def test_what_cannot_be_represented_is_refused(weights, size):
    with pytest.raises(ValueError, match="cannot represent"):
        buckets.fill(weights, size)


def test_fewer_buckets_than_some_ideal_needs_still_leave_nobody_out():
    counts = buckets.counts({"big": 256, **{f"b{number}": 1 for number in range(7)}}, 8)
    assert counts == {"big": 1, **{f"b{number}": 1 for number in range(7)}}


def test_sizes_stay_sensible():
    assert buckets.size_for([1, 1], SIZES) == 2
    assert buckets.size_for([10, 30], SIZES) == 4
    assert buckets.size_for([1] * 67, SIZES) == 1024
    assert buckets.size_for([256] * 255 + [1], SIZES) == 65536
