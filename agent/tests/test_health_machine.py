# SPDX-License-Identifier: GPL-2.0-or-later
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.health import NO_CHECK, RiseFall, Target, Verdict, askers, combine, target_of, targets
from agent.model import validate

THRESHOLD = st.integers(1, 6)
RESULTS = st.lists(st.booleans(), max_size=60)


def runs(machine, results):
    """The health after each result."""
    seen = []
    for ok in results:
        before = machine.health
        changed = machine.result(ok=ok)
        assert changed == (machine.health != before)
        seen.append(machine.health)
    return seen


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_a_change_needs_as_many_in_a_row_as_set_and_never_waits_longer(rise, fall, results):
    healths = ["unknown", *runs(RiseFall(rise, fall), results)]
    for index, (before, after) in enumerate(pairwise(healths), start=1):
        failures = results[:index][-fall:] == [False] * fall
        successes = results[:index][-rise:] == [True] * rise
        if before == "unhealthy":
            assert (after == "healthy") == successes
        elif before == "healthy":
            assert (after == "unhealthy") == failures
        else:
            assert after == ("healthy" if results[index - 1] else "unhealthy" if failures else "unknown")


@given(THRESHOLD, THRESHOLD, RESULTS, RESULTS)
def test_a_machine_made_from_what_was_kept_goes_on_as_if_never_stopped(rise, fall, first, second):
    whole, part = RiseFall(rise, fall), RiseFall(rise, fall)
    runs(whole, first)
    runs(part, first)
    assert runs(RiseFall(rise, fall, part.health, part.run), second) == runs(whole, second)


@given(THRESHOLD, THRESHOLD, RESULTS)
def test_once_known_never_unknown_again(rise, fall, results):
    healths = runs(RiseFall(rise, fall), results)
    known = [health != "unknown" for health in healths]
    assert known == sorted(known)


def verdict(health, seconds=None, reason="", latency=None):
    since = None if seconds is None else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return Verdict(health, reason or health, since, latency)


def test_a_backend_without_checks_is_unknown_and_says_so():
    assert combine([]) == NO_CHECK


def test_one_unhealthy_check_is_enough_and_gives_its_reason_and_time():
    well, bad, worse = verdict("healthy", 1, latency=3.0), verdict("unhealthy", 5, "a"), verdict("unhealthy", 4, "b")
    assert combine([well, bad, worse]) == Verdict("unhealthy", "a; b", worse.since, 3.0)


def test_healthy_needs_all_and_holds_since_the_last_of_them():
    first, last = verdict("healthy", 1, "a", 3.0), verdict("healthy", 2, "b", 1.0)
    assert combine([first, last]) == Verdict("healthy", "a; b", last.since, 3.0)
    assert combine([first, verdict("unknown", reason="not tried")]) == Verdict("unknown", "not tried", None, 3.0)


def document(farms):
    return validate({"version": 1, "farms": farms})


def farm(address, backends, **settings):
    return {"addresses": [address], "ports": [80], "checks": [{"type": "tcp"}], "backends": backends, **settings}


def test_farms_that_ask_the_same_share_a_target_and_a_rename_changes_none():
    one, two = {"address": "198.51.100.1"}, {"address": "198.51.100.2", "state": "drain"}
    before = targets(document({"a": farm("192.0.2.1", {"x": one, "y": two}), "b": farm("192.0.2.2", {"z": one})}))
    after = targets(document({"c": farm("192.0.2.1", {"v": one, "w": two})}))
    assert len(before) == 2
    assert before == after


def test_a_port_in_the_check_or_in_the_backend_is_the_same_question():
    by_check = farm("192.0.2.1", {"x": {"address": "198.51.100.1"}}, checks=[{"type": "tcp", "port": 8080}])
    by_backend = farm("192.0.2.1", {"x": {"address": "198.51.100.1", "port": 8080}})
    assert targets(document({"a": by_check})) == targets(document({"a": by_backend}))


def test_a_check_tries_its_own_port_or_the_backends_or_the_farms():
    backends = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.2", "port": 8080}}
    checks = [{}, {"port": 1}, {"type": "icmp"}]
    found = document({"web": farm("192.0.2.1", backends, ports=[80, 81], checks=checks)}).farms["web"]
    asked = [target_of(found, backend, check) for backend in found.backends.values() for check in found.checks]
    assert [target.port for target in asked] == [80, 1, None, 8080, 1, None]


def test_a_check_of_an_address_of_its_own_is_one_question_for_all_backends():
    backends = {"a": {"address": "198.51.100.1"}, "b": {"address": "198.51.100.2"}}
    asked = askers(
        document(
            {
                name: farm(
                    f"192.0.2.{number}", backends, checks=[{"address": "198.51.100.9"}, {"address": "198.51.100.9"}]
                )
                for number, name in enumerate("xy", 1)
            }
        )
    )
    assert {str(target.address): farms for target, farms in asked.items()} == {"198.51.100.9": ["x", "y"]}


def test_inverted_or_not_is_another_question_and_a_retry_interval_is_not():
    backends = {"x": {"address": "198.51.100.1"}}
    plain, quick, inverted = (
        next(iter(targets(document({"a": farm("192.0.2.1", backends, checks=[check])}))))
        for check in ({}, {"retry_interval": 2.0}, {"invert": True})
    )
    assert plain.subject == quick.subject != inverted.subject
    assert plain != quick


def test_farms_on_other_ports_share_a_check_that_has_no_port():
    pinged = {"backends": {"x": {"address": "198.51.100.1"}}, "checks": [{"type": "icmp"}]}
    found = targets(document({"a": farm("192.0.2.1", **pinged), "b": farm("192.0.2.2", **pinged, ports=[90])}))
    assert len(found) == 1


def test_a_farm_or_backend_that_is_not_enabled_asks_nothing():
    one = {"address": "198.51.100.1"}
    assert targets(document({"a": farm("192.0.2.1", {"x": one}, enabled=False)})) == set()
    assert targets(document({"a": farm("192.0.2.1", {"x": one | {"state": "disabled"}})})) == set()


def test_pace_is_part_of_the_key_and_not_of_the_subject():
    backends = {"x": {"address": "198.51.100.1"}}
    (slow,) = targets(document({"a": farm("192.0.2.1", backends, checks=[{"type": "tcp", "interval": 9.0}])}))
    (quick,) = targets(document({"a": farm("192.0.2.1", backends)}))
    assert isinstance(slow, Target)
    assert slow != quick
    assert slow.subject == quick.subject
