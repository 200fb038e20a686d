# SPDX-License-Identifier: GPL-2.0-or-later
"""Consistent hashing: even shares, and few buckets that change their owner."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane.consistent import MOST_EVEN, fill
from agent.model import Farm

SIZES = [509, 2039]
names = st.lists(st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True), min_size=1, max_size=10, unique=True)


def moved(before, after):
    return sum(one != other for one, other in zip(before, after, strict=True)) / len(before)


def buckets(count):
    return Farm.model_validate({"addresses": ["192.0.2.10"], "ports": [80], "hash_backends": count}).hash_buckets


@given(names, st.sampled_from(SIZES), st.data())
def test_every_backend_that_is_up_has_its_share(known, size, data):
    weights = {name: data.draw(st.integers(1, 20)) for name in known}
    table = Counter(fill(weights, known, size))
    total = sum(weights.values())
    # All take part in a turn of the heaviest, and the last turn may be cut short.
    assert all(abs(table[name] - size * weight / total) <= max(weights.values()) for name, weight in weights.items())


@given(names, st.sampled_from(SIZES), st.data())
def test_who_fails_moves_its_own_clients_only_and_gets_them_back(known, size, data):
    weights = {name: data.draw(st.integers(1, 20)) for name in known}
    up = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    everybody, some = fill(weights, known, size), fill(weights, up, size)
    assert set(some) <= set(up)
    assert all(owner == lender for owner, lender in zip(some, everybody, strict=True) if lender in up)
    one_more = next((name for name in known if name not in up), None)
    if one_more:
        more = fill(weights, [*up, one_more], size)
        assert all(now in (before, one_more) for before, now in zip(some, more, strict=True))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10, 11, 20, 21, 50, 51, 128, 256])
def test_taking_a_backend_out_of_the_document_moves_few_clients(count):
    size = buckets(count)
    weights = dict.fromkeys((f"web{number}" for number in range(count)), 1)
    table = fill(weights, weights, size)
    for gone in list(weights)[:: max(1, count // 3)]:
        left = {name: 1 for name in weights if name != gone}
        assert moved(table, fill(left, left, size)) <= 1.3 / count


@pytest.mark.parametrize("count", [4, 10, 20, 50, 256])
def test_whatever_it_weighs(count):
    weights = {f"web{number}": (1, 2, 5, 100)[number % 4] for number in range(count)}
    table = fill(weights, weights, buckets(count))
    for gone in list(weights)[:4]:
        left = {name: weight for name, weight in weights.items() if name != gone}
        share = weights[gone] / sum(weights.values())
        assert moved(table, fill(left, left, buckets(count))) <= share + 0.3 / count


@pytest.mark.parametrize("weight", [1, 3])
def test_shares_on_the_ring_are_by_weight_and_differ_by_little(weight):
    weights = {f"web{number}": weight if number % 2 else 1 for number in range(256)}
    table = Counter(fill(weights, weights, buckets(256)))
    share = buckets(256) / sum(weights.values())
    assert all(0.7 * share * of <= table[name] <= 1.3 * share * of for name, of in weights.items())


@pytest.mark.parametrize("count", [3, 10, 20, 50, 256])
def test_the_clients_of_who_fails_are_spread_over_the_others(count):
    size = buckets(count)
    weights = dict.fromkeys((f"web{number}" for number in range(count)), 1)
    up = list(weights)[1:]
    shares = Counter(fill(weights, up, size))
    assert max(shares.values()) <= (1.1 if size <= MOST_EVEN else 1.3) * size / len(up)


def test_two_appliances_hash_alike():
    weights = {"a": 1, "b": 2, "c": 1}
    assert fill(weights, ["b", "a", "c"], 509) == fill(dict(reversed(weights.items())), {"a", "b", "c"}, 509)
    # Whoever changes this moves every client of every appliance.
    assert "".join(fill(weights, weights, 509)[:32]) == "aaabbcaaaaccabbbbbaaaccbbbbbbbbc"
    assert "".join(fill(weights, weights, 131_071)[::4096]) == "baababbccbabcbcbababbaacbcbaccbc"


def test_nobody_or_too_many_is_an_error():
    with pytest.raises(ValueError, match="nobody"):
        fill({"a": 1}, [], 509)
    with pytest.raises(ValueError, match="buckets"):
        fill({str(number): 1 for number in range(510)}, ["1"], 509)
