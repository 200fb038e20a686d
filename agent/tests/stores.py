# SPDX-License-Identifier: GPL-2.0-or-later
"""Stores of snapshots in a directory of the test, and what they say."""

from agent.model import Configuration
from agent.snapshots import Store


def named(name, farms=0):
    content = {f"farm-{count}": {"addresses": [f"192.0.2.{count + 1}"], "ports": [80]} for count in range(farms)}
    return Configuration.model_validate({"system": {"hostname": name}, "farms": content})


def commit(store, name, farms=0):
    return store.confirm(store.prepare(named(name, farms), author="admin").number)


def opened(directory):
    store = Store.open(directory, software="1")
    store.recover()
    return store


def codes(store):
    return [trouble.code for trouble in store.troubles()]


def hostname(store):
    return store.in_force() and store.in_force().configuration().system.hostname


def with_two(place):
    """Make a data directory in which `two` is in force and `one` was."""
    place.mkdir()
    store = opened(place)
    commit(store, "one")
    commit(store, "two")
    store.close()
    return place
