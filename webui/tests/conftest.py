# SPDX-License-Identifier: GPL-2.0-or-later
"""Worlds for the GUI's tests: a real agent, the GUI in front of it, browsers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from gui_agent import PASSWORD, Agent
from gui_browser import Browser

from agent.client import Client
from agent.model.answers import Session
from webui import create_app


@pytest.fixture(scope="session")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A claimed agent that tests share: each makes farms of its own names."""
    agent = Agent(tmp_path_factory.mktemp("agent"))
    agent.start()
    yield agent.claimed()
    agent.stop()


@pytest.fixture
def fresh_agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that nobody has claimed, for tests that kill it or use up its patience."""
    agent = Agent(tmp_path)
    agent.start()
    yield agent
    agent.stop()


def make_gui(agent: Agent) -> Flask:
    """The GUI in front of an agent."""
    return create_app({"SECRET_KEY": b"k" * 32, "AGENT_SOCKET": str(agent.socket)})


@pytest.fixture
def gui() -> Callable[[Agent], Flask]:
    """Makes the GUI in front of an agent."""
    return make_gui


@pytest.fixture(scope="session")
def app(shared_agent: Agent) -> Flask:
    """The GUI in front of the shared agent."""
    return make_gui(shared_agent)


@pytest.fixture(scope="session")
def granted(shared_agent: Agent) -> Session:
    """A session at the shared agent: a log-in takes its time, by design."""
    return Client(shared_agent.socket).login("admin", PASSWORD)


@pytest.fixture
def browser(app: Flask, granted: Session) -> Browser:
    """A browser that is logged in."""
    browser = Browser(app)
    browser.resume(granted)
    return browser


@pytest.fixture
def stranger(app: Flask) -> Browser:
    """A browser that is not logged in."""
    return Browser(app)
