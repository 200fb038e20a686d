# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of several parts use."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from access_world import PASSWORD, Clock, cheap_hashes
from hypothesis import settings

from agent.access import Access


def pytest_configure() -> None:
    pytest.register_assert_rewrite("kernel_flows", "kernel_ends")  # what their asserts find is told as that of tests
    # How long an example takes says more about what else the machine does than about the code.
    settings.register_profile("sluice", deadline=None)
    settings.load_profile("sluice")


@pytest.fixture
def memory_path():
    """A directory in memory where that is possible: tests that write thousands of times need not wait for a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as place:
        yield Path(place)


@pytest.fixture
def opened():
    """What is entered here is closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def clock():
    """The clock of `unclaimed` and `access`."""
    return Clock()


@pytest.fixture
def unclaimed(memory_path, clock, monkeypatch):
    """The access of a box that nobody has claimed."""
    cheap_hashes(monkeypatch)
    access = Access.open(memory_path, clock=clock)
    yield access
    access.close()


@pytest.fixture
def access(unclaimed):
    """The access of a box whose administrator has PASSWORD."""
    unclaimed.provision(password=PASSWORD)
    return unclaimed
