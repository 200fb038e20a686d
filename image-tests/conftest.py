# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures that build the world of a story, and look afterwards for what went wrong without any story asking."""

import shutil
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from lab import artefacts, journal
from lab.appliance import Appliance
from lab.browser import Window, chromium
from lab.enter import is_inside
from lab.expected import EXPECTED
from lab.laboratory import Laboratory

_FAILED = pytest.StashKey[bool]()


def pytest_configure() -> None:
    """Refuse to run where networks are real; forget what earlier runs left behind."""
    if not is_inside():
        raise pytest.UsageError("image tests run inside a lab: make test, or python -m lab.enter pytest image-tests")
    shutil.rmtree(artefacts.ARTEFACTS, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a story failed, for the fixtures that end after it."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def whole_lab() -> Iterator[Laboratory]:
    """The laboratory of the whole run."""
    with Laboratory() as laboratory:
        yield laboratory


@pytest.fixture
def lab(whole_lab: Laboratory, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The laboratory as it was at the start; afterwards every appliance of the story is examined."""
    whole_lab.reset()
    yield whole_lab
    faults = [] if request.node.stash.get(_FAILED, False) else _examine(whole_lab)
    if faults or request.node.stash.get(_FAILED, False):
        for appliance in whole_lab.appliances:
            artefacts.collect(artefacts.folder_for(request.node.name), appliance, whole_lab.folder / "saved")
    whole_lab.reset()
    if faults:
        pytest.fail("the story went well, but:\n" + "\n".join(faults), pytrace=False)


def _examine(laboratory: Laboratory) -> list[str]:
    faults = []
    for appliance in laboratory.appliances:
        if appliance.machine.running:
            faults += [f"unit {unit} has failed" for unit in appliance.failed_units()]
        entries = journal.faults(appliance.journal(), [*EXPECTED, *appliance.expected])
        faults += [f"in the journal: {entry}" for entry in entries]
    return faults


@pytest.fixture
def appliance(lab: Laboratory, request: pytest.FixtureRequest) -> Appliance:
    """A running box that was booted once, has its links configured, and was not claimed."""
    return lab.restored_appliance(request.node.name)


@pytest.fixture
def claimed(appliance: Appliance) -> Appliance:
    """The same, claimed; the API is open to `appliance.api`."""
    appliance.claim()
    return appliance


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of the whole run."""
    with chromium() as running:
        yield running


@pytest.fixture
def open_window(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Window]]:
    """Opens windows (see Window.open); none of them may have complained in the end."""
    windows: list[Window] = []

    def open_one(**options: Any) -> Window:
        windows.append(Window.open(browser, **options))
        return windows[-1]

    yield open_one
    faults = [fault for window in windows for fault in window.faults]
    failed = bool(faults) or request.node.stash.get(_FAILED, False)
    for window in windows:
        window.close(artefacts.folder_for(request.node.name) if failed else None)
    if faults:
        pytest.fail("the browser complained:\n" + "\n".join(faults), pytrace=False)


@pytest.fixture
def window(open_window: Callable[..., Window]) -> Window:
    """A desktop window."""
    return open_window()
