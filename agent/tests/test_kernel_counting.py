# SPDX-License-Identifier: GPL-2.0-or-later
"""What passed, counted by connection tracking: what ended counts, and what was not heard of is said."""

import pytest
from kernel_net import backend_address, farm, serving

from agent.dataplane import conntrack, counting, endings

pytestmark = pytest.mark.kernel

WEB = {"web": farm(1, 2, protocols=["tcp", "udp"])}


@pytest.fixture
def box():
    with serving(1, 2) as box:
        yield box


def forget(box):
    """End every connection that is balanced."""
    marks = set(box.ruleset.marks())
    return box.balancer.run(lambda: conntrack.forget(marks, cut=marks))


def passed(box):
    counters = box.counters().values()
    return tuple(
        sum(figures)
        for figures in zip(
            *((each.packets_in, each.bytes_in, each.packets_out, each.bytes_out) for each in counters), strict=True
        )
    )


def ask(box, sock):
    sock.send(b"12345")
    return sock.recv(100)


def test_what_ended_counts_for_ever(box):
    box.apply(WEB)
    expected_out = 0
    for number in range(1, 4):
        with box.datagram() as sock:
            expected_out += 28 + len(ask(box, sock))
        assert forget(box) == 1
        assert passed(box) == (number, number * 33, number, expected_out)
        assert box.active() == {}


def test_open_and_ended_connections_are_counted_together(box):
    box.apply(WEB)
    with box.datagram() as first, box.datagram() as second:
        for sock in (first, second, first, first):
            ask(box, sock)
    before = passed(box)
    assert before[:2] == (4, 4 * 33)
    assert forget(box) == 2
    assert passed(box) == before


def test_a_new_agent_goes_on_counting(box):
    box.apply(WEB)
    with box.datagram() as sock, box.datagram() as other:
        ask(box, other)
        assert forget(box) == 1
        ask(box, sock)
        assert passed(box)[:2] == (2, 66)
        box.adopt()
        ask(box, sock)  # while no agent counts
        box.apply(WEB)
        assert passed(box)[:2] == (3, 99), "what is open tells all it passed"
        assert forget(box) == 1
        assert passed(box)[:2] == (3, 99), "so it does when it ends, though it began before"


def test_what_ended_while_no_agent_was_there_counts_as_far_as_it_was_seen(box):
    box.apply(WEB)
    with box.datagram() as sock:
        ask(box, sock)
        assert passed(box)[:2] == (1, 33)
        kept = box.balancer.run(box.kernel.export)
        ask(box, sock)
        box.kernel.close()
        assert forget(box) == 1
    box.adopt()
    box.kernel.counting.restore(kept)
    box.apply(WEB)
    assert passed(box)[:2] == (1, 33)
    with box.datagram() as sock:
        ask(box, sock)
    assert passed(box)[:2] == (2, 66)


def test_a_backend_that_left_takes_its_figures_with_it(box):
    box.apply(WEB)
    with box.datagram() as sock:
        ask(box, sock)
    assert passed(box)[0] == 1
    box.apply({})
    assert box.counters() == {}
    box.apply(WEB)
    assert passed(box) == (0, 0, 0, 0)


def test_events_that_were_lost_are_told_and_totals_do_not_fall(box, monkeypatch):
    monkeypatch.setattr(endings, "ROOM", 4096)
    box.adopt()
    box.apply(WEB)
    sockets = [box.datagram() for _ in range(60)]
    for sock in sockets:
        ask(box, sock)
        sock.close()
    assert passed(box)[:2] == (60, 60 * 33)
    assert box.kernel.counting.hindrance() is None
    with box.kernel.counting.listen()._lock:  # nobody reads
        assert forget(box) == 60
    assert passed(box)[:2] == (60, 60 * 33)
    assert "faster than they could be counted" in box.kernel.counting.hindrance()
    with box.datagram() as sock:
        ask(box, sock)
    assert passed(box)[:2] == (61, 61 * 33)


def test_where_nobody_tells_what_ends_traffic_is_as_ever(box, monkeypatch):
    def deaf():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(counting, "Endings", deaf)
    box.adopt()
    box.apply(WEB)
    assert box.turn(2) == [backend_address(1), backend_address(2)]
    with pytest.raises(PermissionError):
        box.counters()
