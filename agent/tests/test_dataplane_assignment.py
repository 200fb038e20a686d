# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks and pickers: everything that has a number keeps it, and nothing has another's."""

from agent.dataplane import compile_ruleset
from agent.dataplane.assignment import LAST_MARK, Assignment, Side
from agent.dataplane.pool import BY_NAME, TURNS
from agent.model import validate

A, M = Side("a", 4), Side("m", 4)


def document(farms):
    """farms: name -> number of backends."""
    return validate(
        {
            "version": 1,
            "farms": {
                name: {
                    "addresses": [f"10.20.{index // 250}.{index % 250 + 1}"],
                    "ports": [80],
                    "backends": {f"b{n}": {"address": f"10.30.{n // 250}.{n % 250 + 1}"} for n in range(count)},
                }
                for index, (name, count) in enumerate(farms.items())
            },
        }
    )


def everybody(config, weight=1):
    return {name: dict.fromkeys(farm.backends, weight) for name, farm in config.farms.items()}


def compiled(farms, previous=None):
    config = document(farms)
    return compile_ruleset(config, everybody(config), previous=previous)


def pickers(ruleset):
    return {side.farm: numbers.picker.name for side, numbers in ruleset.assignment.sides.items() if numbers.picker}


def test_a_farm_keeps_its_numbers_when_others_come_and_go():
    first = compiled({"m": 3})
    second = compiled({"a": 3, "m": 3, "z": 3}, first)
    third = compiled({"m": 3}, second)
    assert first.assignment.sides[M] == second.assignment.sides[M] == third.assignment.sides[M]
    assert third.parts[M].elements == first.parts[M].elements
    assert len(set(pickers(second).values())) == 3


def test_freed_marks_are_not_used_again_soon():
    first = compiled({"a": 2})
    without = compiled({}, first)
    again = compiled({"a": 2}, without)
    assert not set(first.marks()) & set(again.marks())
    assert first.assignment.sides[A].mark != again.assignment.sides[A].mark


def test_marks_go_in_a_circle_and_step_over_those_in_use():
    start = compiled({"a": 2}).assignment
    at_the_end = Assignment(start.sides, LAST_MARK, LAST_MARK)
    more = compiled({"a": 2, "b": 3}, at_the_end)
    assert sorted(more.marks()) == [1, 2, 3, 4, LAST_MARK]
    assert more.assignment.sides[Side("b", 4)].mark == LAST_MARK
    assert compiled({"a": 2, "b": 3, "c": 1}, more).assignment.sides[Side("c", 4)].mark == 2


def test_a_backend_with_another_address_is_another_server():
    config = document({"a": 2})
    first = compile_ruleset(config, everybody(config))
    moved = validate(
        {**config.model_dump(mode="json"), "farms": {"a": {**config.model_dump(mode="json")["farms"]["a"]}}}
        | {"farms": {"a": {"addresses": ["10.20.0.1"], "ports": [80], "backends": {
            "b0": {"address": "10.30.9.9"}, "b1": {"address": "10.30.0.2"}}}}}
    )  # fmt: skip
    second = compile_ruleset(moved, everybody(moved), previous=first)
    before = {who: mark for mark, who in first.marks().items()}
    after = {who: mark for mark, who in second.marks().items()}
    assert before["a", "b1"] == after["a", "b1"]
    assert after["a", "b0"] not in first.marks()


def test_farms_get_turns_of_their_own_while_there_are_any_then_share_random_ones():
    ruleset = compiled({f"f{number:03}": 2 for number in range(400)})
    names = pickers(ruleset)
    turns = [name for name in names.values() if name.startswith("turn")]
    assert len(turns) == len(set(turns)) > 100
    shared = [farm for farm, name in names.items() if name == "random_2"]
    assert len(turns) + len(shared) == 400
    assert all(ruleset.exact_turn(farm) is (farm not in shared) for farm in names)
    assert all(ruleset.share(farm, "b0") == 0.5 for farm in names)


def test_a_farm_gets_a_turn_of_its_own_as_soon_as_one_is_free():
    farms = {f"f{number:03}": 2 for number in range(400)}
    full = compiled(farms)
    waiting = next(farm for farm in farms if not full.exact_turn(farm))
    lucky = next(farm for farm in farms if full.exact_turn(farm))
    config = document(farms)
    kept = validate(config.model_dump(mode="json", exclude={"farms": {lucky}}))
    fewer = compile_ruleset(kept, everybody(kept), previous=full)
    assert fewer.exact_turn(waiting)
    changed = [side.farm for side in fewer.parts if fewer.parts[side] is not full.parts[side]]
    assert changed == [waiting]


def test_a_failing_backend_moves_as_little_as_possible():
    config = document({"a": 2})
    both = compile_ruleset(config, everybody(config))
    one = compile_ruleset(config, {"a": {"b1": 1}}, previous=both)
    none = compile_ruleset(config, {"a": {}}, previous=one)
    again = compile_ruleset(config, everybody(config), previous=none)
    assert pickers(both) == pickers(one) == pickers(none) == pickers(again)
    assert none.parts[A].elements["pickers"] != both.parts[A].elements["pickers"]
    assert again.parts[A].elements == both.parts[A].elements


def test_a_single_backend_needs_no_turn_of_its_own():
    ruleset = compiled({f"f{number}": 1 for number in range(50)})
    assert set(pickers(ruleset).values()) == {"turn_1_0"}
    assert all(ruleset.exact_turn(f"f{number}") for number in range(50))


def test_the_pool_has_each_picker_once():
    assert len(BY_NAME) == len({picker.name for picker in BY_NAME.values()})
    assert sum(len(pickers) for pickers in TURNS.values()) >= 250
    assert set(range(1, 65)) <= set(TURNS)
