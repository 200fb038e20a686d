# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of several parts use."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings


def pytest_configure() -> None:
    pytest.register_assert_rewrite("kernel_flows")  # what its asserts find is told as that of tests
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
