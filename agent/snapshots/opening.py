# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening the store: what to do when the database is not there, cannot be written, or is damaged."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from agent.snapshots import last_good, rows
from agent.snapshots.snapshot import NotFound, Snapshot
from agent.storage import (
    Database,
    StoreDamaged,
    StoreError,
    StoreNewer,
    move_aside,
    open_best,
)

NUMBERS_SKIPPED = 100
"""After a damaged database numbers go on this much higher: those it may have given are not given again."""


@dataclass
class Opened:
    """A database that can be used."""

    database: Database
    in_force: Snapshot | None
    reason: StoreError | None
    """Why it is not lasting or cannot be written."""
    damage: str | None
    """What was found damaged, and what was done about it, in a sentence for a person."""


def open_store(directory: Path) -> Opened:
    """Open the database of `directory` as well as possible. Raises StoreBusy."""
    path = directory / rows.NAME
    try:
        database, reason = open_best(path, rows.SCHEMA, rows.VERSION)
    except StoreNewer as error:
        # The other firmware slot's: not damaged, and not to be touched.
        database = Database.memory(rows.SCHEMA, rows.VERSION)
        return Opened(database, _restore(database, [last_good.read(directory)]), error, None)
    except StoreDamaged as error:
        return _begin_anew(directory, error)
    try:
        in_force = _in_force(database)
    except StoreDamaged as error:
        database.close()
        return _begin_anew(directory, error)
    except StoreError as error:
        database.close()
        database = Database.memory(rows.SCHEMA, rows.VERSION)
        return Opened(database, _restore(database, [last_good.read(directory)]), error, None)
    return _compare(directory, Opened(database, in_force, reason, None))


def _compare(directory: Path, opened: Opened) -> Opened:
    # The copy is written after the database. If it is newer, the database lost something that was on the disk.
    copy = last_good.read(directory)
    if copy is None or (opened.in_force is not None and opened.in_force.number >= copy.number):
        return opened
    if opened.database.mode == "read-only":
        opened.in_force = copy
    else:
        try:
            opened.in_force = _restore(opened.database, [copy])
        except StoreError as error:
            opened.in_force = copy
            opened.reason = error
    if opened.database.mode == "disk":
        opened.damage = (
            f"The history of snapshots was incomplete; snapshot {copy.number} was taken from its copy and is in force."
        )
    return opened


def _begin_anew(directory: Path, error: StoreError) -> Opened:
    path = directory / rows.NAME
    what = f"The database of snapshots was damaged ({error})"
    try:
        aside = move_aside(path)
        candidates = [last_good.read(directory), _salvage(aside)]
        database, reason = open_best(path, rows.SCHEMA, rows.VERSION)
        what += f" and was moved to {aside.name}"
    except StoreError as refused:
        # It cannot even be moved, or the new one fails as well: run on what can be read.
        candidates = [last_good.read(directory), _salvage(path)]
        database, reason = Database.memory(rows.SCHEMA, rows.VERSION), refused
    try:
        in_force = _restore(database, candidates)
    except StoreError as refused:
        database.close()
        database, reason = Database.memory(rows.SCHEMA, rows.VERSION), refused
        in_force = _restore(database, candidates)
    if in_force is None:
        what += "; no copy of the configuration could be read. Import one, or set the appliance up anew."
    else:
        what += f"; snapshot {in_force.number} was read from its copy and is in force, older ones are not shown."
    return Opened(database, in_force, reason, what)


def _in_force(database: Database) -> Snapshot | None:
    number, _ = rows.current(database)
    try:
        return None if number is None else rows.snapshot(database, number)
    except NotFound as error:
        raise StoreDamaged(str(error)) from error


def _salvage(damaged: Path) -> Snapshot | None:
    # The newest snapshot of a damaged database that was in force and is whole.
    try:
        database = Database.read(damaged, rows.VERSION, check=False)
    except (StoreError, OSError):
        return None
    try:
        in_force, _ = rows.current(database)
        if in_force is None:
            return None
        for (number,) in database.rows(
            "SELECT number FROM snapshots WHERE number <= ? ORDER BY number DESC", [in_force]
        ):
            with contextlib.suppress(StoreDamaged, NotFound):
                found = rows.snapshot(database, number)
                if found.outcome == "committed":
                    return found
    except StoreError:
        return None
    finally:
        database.close()
    return None


def _restore(database: Database, candidates: list[Snapshot | None]) -> Snapshot | None:
    found = max((one for one in candidates if one is not None), key=lambda one: one.number, default=None)
    if found is None:
        return None
    found = rows.with_document(found, found.document, "committed")
    with database.transaction() as connection:
        known = connection.execute("SELECT digest FROM snapshots WHERE number = ?", [found.number]).fetchone()
        if known is None:
            rows.insert(connection, found, found.document, numbered=True)
            connection.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'snapshots'",
                [found.number + NUMBERS_SKIPPED - 1],
            )
        connection.execute("DELETE FROM abandoned WHERE number = ?", [found.number])
        connection.execute("UPDATE current SET in_force = ?, pending = NULL", [found.number])
    return found
