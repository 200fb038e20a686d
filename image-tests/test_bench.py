# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's table: what is met, and who wins, is told from the figures."""

from xml.etree import ElementTree as ET

import pytest

from lab.bench import plots, report
from lab.bench.rows import Figures, Result, results

COUNTED = {
    ("routing", 1): {"packet": 3000.0, "flow": 3000.0},
    ("ipvs nat", 1): {"packet": 4600.0, "flow": 6400.0},
    ("ipvs nat conntrack", 1): {"packet": 6500.0, "flow": 9700.0},
    ("sluice dnat", 1): {"packet": 2400.0, "flow": 9000.0},
    ("sluice dnat (mixed)", 2): {"packet": 2400.0, "flow": 9000.0},
    ("sluice dnat (mixed)", 10_000): {"packet": 2400.0, "flow": 9450.0},
}


@pytest.fixture
def found():
    figures = Figures(COUNTED, {"connections lost in 2000 changes under load": (0, "of 50000")})
    return {result.name: result for result in results(figures)}


def test_a_limit_is_the_least_of_what_it_is_made_of(found):
    row = found["sluice dnat: established packet"]
    assert row.limit == pytest.approx(0.55 * 4600)
    assert row.met


def test_a_peer_that_does_better_is_named_and_routing_is_no_peer(found):
    assert found["sluice dnat: new flow"].winners() == ["ipvs nat"]
    assert not found["sluice dnat: new flow"].met
    assert "ipvs nat 6 400" in report.targets(list(found.values()))


def test_many_farms_are_held_against_one(found):
    assert found["sluice dnat: established packet at 10 000 farms against 1"].met
    assert not found["sluice dnat: new flow at 10 000 farms against 1"].met


def test_what_is_not_measured_is_not_met(found):
    row = found["sluice stateless: new flow"]
    assert (row.measured, row.limit) == (None, pytest.approx(0.90 * 6400))
    assert row.met is False
    assert "not measured" in report.targets([row])


def test_none_lost_is_met_and_one_is_not(found):
    assert found["connections lost in 2000 changes under load"].met
    assert not Result("lost", 1, "of 50000", 0).met


def test_rows_of_the_file_have_what_readers_look_for(found):
    row = found["sluice dnat: new flow"].object()
    assert set(row) == {"name", "measured", "unit", "limit", "met", "peers"}
    assert row["peers"]["ipvs nat conntrack"] == 9700


def test_plots_are_svg_with_a_mark_for_every_figure():
    picture = ET.fromstring(plots.bars("A & B", {"sluice dnat": 2.0, "<peer>": 3.0}))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 2
    curves = {"one": {1: 10.0, 100: 20.0}, "other": {1: 1.0, 100: 5000.0, 10_000: 9000.0}}
    picture = ET.fromstring(plots.lines("lines", curves, "services"))
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 5
