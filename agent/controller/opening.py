# SPDX-License-Identifier: GPL-2.0-or-later
"""Which document the agent begins with."""

import logging

from agent.access import Access
from agent.model import Configuration, Invalid, System, parse
from agent.model.state import Trouble
from agent.snapshots import Snapshot, Store, StoreError
from agent.system.credentials import Provisioning

_log = logging.getLogger(__name__)

UNUSABLE = "configuration-unusable"
"""The code of the trouble that ends with the next commit."""

_TRIES = 1000
"""So many earlier snapshots are tried when the one in force cannot be used."""


def provision(access: Access, given: Provisioning) -> None:
    """Take the secrets that the machine was given. Hashes a password: call it in a thread."""
    access.provision(password=given.admin_password, api_token=given.api_token, named=given.secrets)


def open_configuration(
    store: Store, snapshot: Snapshot | None, provisioning: Provisioning
) -> tuple[Configuration, Snapshot | None, list[Trouble]]:
    """The document to begin with, its snapshot (None when none can be kept), and what was wrong.

    `snapshot` is the one in force; without one the first is made.
    """
    if snapshot is not None:
        config, found = last_good(store, snapshot)
        return config, snapshot, found
    config, comment, found = first_configuration(provisioning)
    try:
        number = store.prepare(config, author="system", comment=comment).number
        try:
            return config, store.confirm(number), found
        except StoreError:
            store.abandon(number)
            raise
    except StoreError as error:
        _log.error("the first snapshot could not be kept: %s", error)
    return config, None, found


def first_configuration(provisioning: Provisioning) -> tuple[Configuration, str, list[Trouble]]:
    """The document of an appliance that never had one, the comment of its snapshot, and what was wrong.

    It is the provisioned one or the default, with the provisioned host name: many machines may be given one document,
    and one that was exported has the name of the machine that it comes from.
    """
    named = {"system": System(hostname=provisioning.hostname)} if provisioning.hostname else {}
    if provisioning.configuration is not None:
        try:
            return parse(provisioning.configuration).model_copy(update=named), "Provisioned", []
        except Invalid as error:
            words = "; ".join(f"{fault.pointer or '/'} {fault.message}" for fault in error.faults[:5])
            message = f"The credential sluice.configuration was ignored: {words}."
            trouble = [Trouble(code="credential-unusable", message=message)]
    else:
        trouble = []
    return Configuration().model_copy(update=named), "First start", trouble


def last_good(store: Store, snapshot: Snapshot) -> tuple[Configuration, list[Trouble]]:
    """The document in force, or, when this software cannot use it, the newest earlier one that it can."""
    try:
        return snapshot.configuration(), []
    except Invalid as error:
        reason = str(error.faults[0].message)
    for entry in store.list(limit=_TRIES, before=snapshot.number):
        try:
            config = store.get(entry.number).configuration()
        except (Invalid, StoreError):
            continue
        message = (
            f"Snapshot {snapshot.number} cannot be used by this software ({reason}); "
            f"snapshot {entry.number} is balanced by instead. Roll back to it, or correct the document."
        )
        return config, [Trouble(code=UNUSABLE, message=message)]
    message = f"No snapshot can be used by this software ({reason}); nothing is balanced. Commit a new document."
    return Configuration(), [Trouble(code=UNUSABLE, message=message)]
