# SPDX-License-Identifier: GPL-2.0-or-later
"""Guessing is slowed down, and nobody can lock the administrator out for ever."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from access_world import PASSWORD, cheap_hashes

from agent.access import Access, Throttled, WrongCode, WrongCredentials, WrongPassword
from agent.access.throttle import ACCOUNT, SOURCE, place

HOME = "192.0.2.1"
EVIL = "203.0.113.66"


class World:
    def __init__(self, directory):
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.directory = directory
        self.access = Access.open(directory, clock=self.clock)

    def clock(self):
        return self.now

    def go(self, seconds):
        self.now += timedelta(seconds=seconds)

    def fail(self, source, user="admin"):
        """One wrong try: seconds to wait, or 0 if it was looked at."""
        try:
            self.access.log_in(user, "wrong password", source)
        except WrongCredentials:
            return 0
        except Throttled as throttled:
            return throttled.retry_after_s
        raise AssertionError("a wrong password was right")

    def restart(self):
        self.access.close()
        self.access = Access.open(self.directory, clock=self.clock)


@pytest.fixture
def world(memory_path, monkeypatch):
    cheap_hashes(monkeypatch)
    found = World(memory_path)
    found.access.provision(password=PASSWORD)
    yield found
    found.access.close()


def test_each_failure_after_the_first_five_waits_twice_as_long(world):
    assert [world.fail(EVIL) for _ in range(5)] == [0] * 5
    waits = []
    for _ in range(12):
        waits.append(world.fail(EVIL))
        world.go(waits[-1])
        assert world.fail(EVIL) == 0
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_a_try_that_comes_too_early_is_not_looked_at_and_not_counted(world):
    for _ in range(5):
        world.fail(EVIL)
    with pytest.raises(Throttled):
        world.access.log_in("admin", PASSWORD, EVIL)
    for _ in range(100):
        assert world.fail(EVIL) == 2
    world.go(2)
    assert world.access.log_in("admin", PASSWORD, EVIL)


def test_a_log_in_forgets_the_failures_of_its_source(world):
    for _ in range(4):
        world.fail(HOME)
    world.access.log_in("admin", PASSWORD, HOME)
    assert [world.fail(HOME) for _ in range(5)] == [0] * 5


def test_failures_are_forgotten_after_a_day(world):
    for _ in range(5):
        world.fail(EVIL)
    world.go(24 * 3600 + 1)
    assert [world.fail(EVIL) for _ in range(5)] == [0] * 5
    assert world.fail(EVIL) == 2


def test_failures_outlast_a_restart(world):
    for _ in range(5):
        world.fail(EVIL)
    world.restart()
    assert world.fail(EVIL) == 2


def test_a_clock_that_is_set_back_does_not_lock_out(world):
    for _ in range(20):
        world.go(world.fail(EVIL))
    world.go(-3600 * 24 * 365)
    assert world.fail(EVIL) <= SOURCE.most
    world.go(SOURCE.most)
    assert world.access.log_in("admin", PASSWORD, EVIL)


def test_other_sources_are_not_slowed_down_by_one(world):
    for _ in range(5):
        world.fail(EVIL)
    assert world.fail(EVIL) > 0
    assert world.access.log_in("admin", PASSWORD, HOME)


@pytest.mark.parametrize("users", [["admin"], ["root", "guest", "x" * 1000, ""]])
def test_many_sources_together_are_slowed_down(world, users):
    for count in range(ACCOUNT.free):
        assert world.fail(f"198.51.100.{count}", users[count % len(users)]) == 0
    waits = []
    for count in range(10):
        waits.append(world.fail(f"198.51.101.{count}"))
        world.go(waits[-1])
        assert world.fail(f"198.51.101.{count}") == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_strangers_cannot_lock_out_who_logged_in_before_or_sits_at_the_console(world):
    world.access.log_in("admin", PASSWORD, HOME)
    for count in range(200):
        world.fail(f"198.51.100.{count}")
    assert world.fail("198.51.101.1") > 0
    for _ in range(3):
        assert world.access.log_in("admin", PASSWORD, HOME)
        assert world.access.log_in("admin", PASSWORD, "console")
    # What the administrator did right does not help the strangers.
    world.go(ACCOUNT.most)
    world.fail("198.51.101.1")
    assert world.fail("198.51.101.2") == 2


def test_strangers_cannot_lock_out_a_new_place_for_longer_than_a_minute(world):
    for count in range(100):
        world.go(world.fail(f"198.51.100.{count}"))
        world.fail(f"198.51.100.{count}")
    with pytest.raises(Throttled) as caught:
        world.access.log_in("admin", PASSWORD, HOME)
    assert caught.value.retry_after_s <= ACCOUNT.most
    world.go(caught.value.retry_after_s)
    assert world.access.log_in("admin", PASSWORD, HOME)


def test_the_console_has_its_own_count(world):
    for _ in range(5):
        world.fail("console")
    assert world.fail("console") == 2
    assert world.access.log_in("admin", PASSWORD, HOME)


def test_a_burst_of_tries_at_once_is_no_way_around(world):
    outcomes = []
    barrier = threading.Barrier(30)

    def attempt():
        barrier.wait()
        outcomes.append(world.fail(EVIL))

    threads = [threading.Thread(target=attempt) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(0) == 5


def test_claiming_is_slowed_down_by_source_and_by_no_other(memory_path, tmp_path):
    world = World(tmp_path)
    code = world.access.claim_code
    for _ in range(5):
        with pytest.raises(WrongCode):
            world.access.claim("AAAA-AAAA-AAAA", PASSWORD, EVIL)
    with pytest.raises(Throttled):
        world.access.claim(code, PASSWORD, EVIL)
    for count in range(100):
        with pytest.raises(WrongCode):
            world.access.claim("AAAA-AAAA-AAAA", PASSWORD, f"198.51.100.{count}")
    assert world.access.claim(code, PASSWORD, HOME)
    world.access.close()


def guess(world, token, source):
    """One guess of the current password with a session: seconds to wait, or 0 if it was looked at."""
    try:
        world.access.change_password(token, "wrong password", "another password", source)
    except WrongPassword:
        return 0
    except Throttled as throttled:
        return throttled.retry_after_s
    raise AssertionError("a wrong password was right")


def test_a_stolen_session_guesses_the_password_no_faster_than_a_stranger(world):
    token = world.access.log_in("admin", PASSWORD, HOME).token
    assert [guess(world, token, EVIL) for _ in range(5)] == [0] * 5
    waits = []
    for _ in range(12):
        waits.append(guess(world, token, EVIL))
        world.go(waits[-1])
        assert guess(world, token, EVIL) == 0
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    # The right one has to wait, too, and a log-in from there counts with them.
    with pytest.raises(Throttled):
        world.access.change_password(token, PASSWORD, "another password", EVIL)
    assert world.fail(EVIL) > 0


def test_a_stolen_session_in_many_places_is_slowed_down_by_the_account(world):
    token = world.access.log_in("admin", PASSWORD, HOME).token
    for count in range(ACCOUNT.free):
        assert guess(world, token, f"198.51.100.{count}") == 0
    assert guess(world, token, "198.51.101.1") == 1
    # Who has been logged in before changes the password all the same.
    assert world.access.change_password(token, PASSWORD, "another password", HOME) == 0


def test_a_right_current_password_forgets_the_failures_of_its_source(world):
    token = world.access.log_in("admin", PASSWORD, HOME).token
    for _ in range(4):
        guess(world, token, HOME)
    world.access.change_password(token, PASSWORD, "another password", HOME)
    assert [guess(world, token, HOME) for _ in range(5)] == [0] * 5
    assert guess(world, token, HOME) == 2


def test_the_table_of_failures_is_bounded(world, monkeypatch):
    monkeypatch.setattr("agent.access.throttle.MAX_ROWS", 10)
    monkeypatch.setattr("agent.access.throttle.ACCOUNT", ACCOUNT)
    for count in range(19):
        world.fail(f"198.51.100.{count}")
        world.go(1)
    rows = world.access._vault.rows("SELECT kind, count(*) FROM throttle GROUP BY kind ORDER BY kind")
    assert rows == [("account", 1), ("source", 10)]


def test_the_table_of_known_sources_is_bounded(world, monkeypatch):
    monkeypatch.setattr("agent.access.throttle.MAX_KNOWN", 2)
    for count in range(4):
        world.access.log_in("admin", PASSWORD, f"192.0.2.{count}")
        world.go(1)
    assert world.access._vault.rows("SELECT source FROM known ORDER BY source") == [("192.0.2.2",), ("192.0.2.3",)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("console", "console"),
        ("x" * 1000, "x" * 64),
        ("", ""),
    ],
)
def test_what_counts_as_one_source(source, expected):
    assert place(source) == expected
