# SPDX-License-Identifier: GPL-2.0-or-later
"""Who takes how much by weight and role, and what becomes of it when these change, without a kernel."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rulesets import NEAR, WEB, WEB4, compiled, executed, merged

from agent.dataplane import readback, reweigh
from agent.dataplane.assignment import Side
from agent.dataplane.script import delta


def test_a_backend_that_takes_nothing_has_no_bucket_but_keeps_its_element_and_counter():
    elements = compiled({"web": WEB}, {"web": {"a": 1, "b": 0}}).parts[WEB4].elements
    assert set(elements["buckets"].values()) == {("1", "")}
    assert elements["backends4"]


def test_a_farm_without_usable_backend_refuses():
    ruleset = compiled({"web": WEB}, {"web": {}})
    assert ruleset.parts[WEB4].elements["pickers"] == {"1": ("goto refuse", "web/4")}
    assert not ruleset.exact_turn("web")
    assert ruleset.share("web", "a") == 0
    assert ruleset.failed() == set(ruleset.marks())


def test_a_draining_backend_has_not_failed():
    backends = {**WEB["backends"], "a": {"address": "10.30.0.11", "state": "drain"}}
    ruleset = compiled({"web": {**WEB, "backends": backends}}, {"web": {"a": 0, "b": 0}})
    assert {ruleset.marks()[mark] for mark in ruleset.failed()} == {("web", "b")}


def test_who_is_cut_and_who_is_only_not_waited_for():
    states = {"a": "enabled", "b": "drain", "c": "disabled", "d": "enabled"}
    backends = {name: {"address": f"10.30.0.{n}", "state": state} for n, (name, state) in enumerate(states.items(), 1)}
    roles = {"web": {"a": "failed", "b": "failed", "c": "disabled", "d": "active"}}

    def names(ruleset, marks):
        return {ruleset.marks()[mark][1] for mark in marks}

    kept = compiled({"web": {**WEB, "backends": backends}}, {"web": {"d": 1}}, roles=roles)
    assert names(kept, kept.failed()) == {"a", "b", "c"}
    assert names(kept, kept.cut()) == {"c"}
    cutting = {**WEB, "backends": backends, "on_failure": "cut"}
    cut = compiled({"web": cutting}, {"web": {"d": 1}}, roles=roles, previous=kept)
    assert names(cut, cut.cut()) == {"a", "b", "c"}
    assert delta(kept, cut) == [], "the kernel holds the same"
    calm = compiled({"web": cutting}, {"web": {"d": 1}}, roles={"web": {**roles["web"], "b": "draining"}}, previous=cut)
    assert names(calm, calm.cut()) == {"a", "c"}, "a role that changes is seen though the weight is 0 as before"


def test_a_farm_without_usable_backend_drops_when_it_says_so():
    ruleset = compiled({"web": {**WEB, "when_down": "drop"}}, {"web": {}})
    assert ruleset.parts["web", 4].elements["pickers"] == {"1": ("goto discard", "web/4")}


def test_a_sorry_server_takes_what_nobody_takes_and_keeps_its_number():
    sorry = {**WEB, "sorry_servers": [{"address": "10.30.0.99", "port": 8080}], "when_down": "drop"}
    first = compiled({"web": sorry})
    mark = next(mark for mark, who in first.marks().items() if who == ("web", "!4"))
    elements = first.parts["web", 4].elements
    assert elements["backends4"][str(mark)] == ("10.30.0.99 . 8080", "web/!4")
    assert (str(mark), "") not in elements["buckets"].values()
    assert first.failed() == {mark}, "what it has goes to the backends"
    down = compiled({"web": sorry}, {"web": {}}, previous=first)
    assert set(down.parts["web", 4].elements["buckets"].values()) == {(str(mark), "")}
    assert down.share("web", "!4") == 1
    assert down.failed() == set(down.marks()) - {mark}
    assert first.parts["web", 4].numbers == down.parts["web", 4].numbers
    everything = {name: {} for name in ("backends4", "backends6", "hosts4", "hosts6")} | merged(down)
    assert readback.assignment(everything) == down.assignment


def test_each_family_has_its_own_sorry_server_and_one_may_answer_alone():
    both = {
        "addresses": ["10.20.0.100", "fd00::1"],
        "ports": [80],
        "backends": {"a": {"address": "10.30.0.11"}, "b": {"address": "fd00:30::11"}},
        "sorry_servers": [{"address": "fd00:30::99", "port": 8080}, {"address": "10.30.0.99"}],
    }
    up = compiled({"web": both})
    assert sorted(who for _, who in up.marks().values()) == ["!4", "!6", "a", "b"]
    half = compiled({"web": both}, {"web": {"a": 1}}, previous=up)
    shares = {name: half.share("web", name) for name in ("a", "b", "!4", "!6")}
    assert shares == {"a": 1, "b": 0, "!4": 0, "!6": 1}
    assert {half.marks()[mark][1] for mark in half.failed()} == {"!4", "b"}
    assert executed(merged(up), delta(up, half)) == merged(half)


def test_by_source_hash_too_a_tier_and_the_sorry_server_take_over():
    web = {**WEB, "scheduler": "source-hash", "sorry_servers": [{"address": "10.30.0.99"}]}
    standby = compiled({"web": web}, {"web": {"a": 1}}, roles={"web": {"a": "active", "b": "standby"}})
    assert standby.share("web", "a") == 1
    assert {standby.marks()[mark][1] for mark in standby.failed()} == {"!4"}, "who stands by has not failed"
    down = compiled({"web": web}, {"web": {}}, previous=standby)
    assert (down.share("web", "!4"), down.share("web", "a")) == (1, 0)
    assert executed(merged(standby), delta(standby, down)) == merged(down)


WEIGHTS = st.dictionaries(st.sampled_from(["b1", "b2", "b3"]), st.integers(0, 7))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "gone"]), WEIGHTS, max_size=3), min_size=1, max_size=6))
def test_other_weights_make_what_a_compilation_makes(changes):
    backends = {name: {"address": f"10.30.0.{name[1]}"} for name in ("b1", "b2", "b3")}
    farms = {name: {**WEB, "addresses": [f"10.20.1.{n}"], "backends": backends} for n, name in enumerate("abc", 1)}
    farms["b"]["forwarding"] = "direct"
    farms["c"] |= {"forwarding": "stateless", "backends": {b: {"address": f"10.30.9.{b[1]}"} for b in backends}}
    weights = {name: dict.fromkeys(backends, 1) for name in farms}
    ruleset = compiled(farms, weights, near=NEAR)
    for change in changes:
        weights |= {name: each for name, each in change.items() if name in farms}
        before, ruleset = ruleset, reweigh(ruleset, change)
        whole = compiled(farms, weights, previous=before, near=NEAR)
        assert executed(merged(before), delta(before, ruleset)) == merged(ruleset)
        assert {command.farm for command in delta(before, ruleset) if not command.structural} <= change.keys()
        assert ruleset.turns() == compiled(farms, weights, previous=ruleset, near=NEAR).turns()
        assert ruleset.marks() == whole.marks()
        assert ruleset.failed() == whole.failed()
        assert ruleset.cut() == whole.cut()
        for name in farms:
            assert ruleset.parts[Side(name, 4)].weights == whole.parts[Side(name, 4)].weights
            assert ruleset.parts[Side(name, 4)].elements.keys() == whole.parts[Side(name, 4)].elements.keys()
            assert ruleset.parts[Side(name, 4)].shares == whole.parts[Side(name, 4)].shares
            assert ruleset.exact_turn(name) == whole.exact_turn(name)
    assert reweigh(ruleset, weights) is ruleset


def test_other_roles_alone_make_what_a_compilation_makes():
    backends = {**WEB["backends"], "c": {"address": "10.30.0.13", "state": "drain"}}
    farms = {name: {**WEB, "addresses": [f"10.20.1.{n}"], "backends": backends} for n, name in enumerate("xy", 1)}
    weights = {name: {"a": 1, "b": 0, "c": 0} for name in farms}
    roles = {name: {"a": "active", "b": "standby", "c": "draining"} for name in farms}
    ruleset = compiled(farms, weights, roles=roles)
    assert reweigh(ruleset, weights, roles) is ruleset
    assert not ruleset.failed()
    roles |= {"x": {"a": "active", "b": "failed", "c": "drained"}}
    other = reweigh(ruleset, {"x": weights["x"]}, {"x": roles["x"]})
    assert other.parts == compiled(farms, weights, previous=ruleset, roles=roles).parts
    assert {other.marks()[mark] for mark in other.failed()} == {("x", "b"), ("x", "c")}
    assert {other.marks()[mark] for mark in other.cut()} == {("x", "c")}
    assert delta(ruleset, other) == [], "the kernel holds the same"


def test_without_any_weight_the_sorry_server_takes_over_and_gives_back():
    farms = {"web": {**WEB, "sorry_servers": [{"address": "10.30.0.99"}]}}
    up = compiled(farms)
    down = reweigh(up, {"web": {"a": 0, "b": 0}})
    assert down.parts == compiled(farms, {"web": {}}, previous=up).parts
    assert down.share("web", "!4") == 1
    again = reweigh(down, {"web": {"a": 1, "b": 1}})
    assert merged(again) == merged(up)
    assert again.failed() == up.failed()


def test_other_weights_find_no_turn_that_a_farm_has_already():
    farms = {f"f{n}": {**WEB, "addresses": [f"10.20.1.{n}"]} for n in range(1, 13)}
    ruleset = compiled(farms)
    for name in farms:
        ruleset = reweigh(ruleset, {name: {"a": 1023, "b": 1}})
    pickers = [part.numbers.picker for part in ruleset.parts.values()]
    assert [picker.kind for picker in pickers] == ["turn"] * 10 + ["random"] * 2
    assert len(set(pickers)) == 11
