# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of endpoints: the router, the checks of requests and the OpenAPI document are made of it."""

from pydantic import BaseModel

from agent.api import clients, documents, history, metrics, now
from agent.api.documents import Farms, Links, Shelf
from agent.api.route import FARM, LARGE, LIST, SMALL, Query, Reply, Route
from agent.api.table_access import ACCESS, NO_ROOM
from agent.model import Configuration, Farm, Link, NetworkList
from agent.model.answers import (
    ClientList,
    Diff,
    Forgotten,
    NetworkLists,
    Preview,
    Snapshot,
    SnapshotInfo,
    SnapshotList,
)
from agent.model.state import StateNow, SystemNow
from agent.model.trace import Trace, TraceRequest
from agent.snapshots import MAX_COMMENT

_COMMENT = Query("comment", "string", "Why, in the author's words; one line.", maximum=MAX_COMMENT)
_LIMIT = Query("limit", "integer", f"How many at most; {history.DEFAULT_LIMIT} by default.", maximum=500)
_BEFORE = Query("before", "integer", "Only snapshots with smaller numbers.")

_CLIENT = Query("client", "network", "Only clients in this network, or this address.", maximum=64)
_BACKEND = Query("backend", "string", "Only clients of this backend.", maximum=63)
_CLIENTS = Query("limit", "integer", f"How many at most; {clients.DEFAULT_LIMIT} by default.", maximum=100_000)

_MADE = Reply("The snapshot that is in force now.", SnapshotInfo, tagged=True)
_NO_FARM = {404: "There is no farm of this name."}
_NO_FARM_OR_BACKEND = {404: "There is no farm, or no backend in it, of this name."}
_NO_SNAPSHOT = {404: "There is no snapshot of this number."}
_CHANGE = {
    409: "Another change is under way.",
    412: "Another snapshot than the one in If-Match is in force; the member `current` has its number.",
    507: NO_ROOM,
}
_DOCUMENT = {422: "The document has faults, or the kernel refuses it; `errors` has each with its JSON pointer."}


def _entries(
    shelf: Shelf, model: type[BaseModel], limit: int, *, put: str, delete: str = ""
) -> tuple[Route, Route, Route]:
    """How one entry of a shelf is read, written and removed. `delete`: why one may be refused, if it may."""
    noun, path, tag = shelf.noun, f"{shelf.path}/{{name}}", f"{shelf.noun}s"
    missing = {404: f"There is no {noun} of this name."}
    return (
        Route(
            "GET",
            path,
            shelf.get,
            f"One {noun}",
            {200: Reply(f"The {shelf.word}.", model, tagged=True)},
            tag,
            refusals=missing,
            called=f"get_{shelf.word}",
        ),
        Route(
            "PUT",
            path,
            shelf.put,
            f"Create or replace a {noun}",
            {
                200: _MADE,
                201: Reply(f"The {shelf.word} is new; the snapshot is in force.", SnapshotInfo, tagged=True),
            },
            tag,
            put,
            query=(_COMMENT,),
            body=model,
            limit=limit,
            conditional=True,
            refusals={**_CHANGE, **_DOCUMENT},
            called=f"put_{shelf.word}",
        ),
        Route(
            "DELETE",
            path,
            shelf.delete,
            f"Remove a {noun}",
            {200: _MADE},
            tag,
            delete,
            query=(_COMMENT,),
            conditional=True,
            refusals={**_CHANGE, **missing, **(_DOCUMENT if delete else {})},
            called=f"delete_{shelf.word}",
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/configuration",
        documents.get_configuration,
        "The configuration in force",
        {200: Reply("The document.", Configuration, tagged=True)},
        "configuration",
    ),
    Route(
        "PUT",
        "/configuration",
        documents.put_configuration,
        "Put a configuration in force",
        {200: _MADE},
        "configuration",
        "Checks the whole document, asks the kernel, and makes a snapshot. When anything is refused, nothing changes.",
        query=(_COMMENT,),
        body=Configuration,
        limit=LARGE,
        conditional=True,
        refusals={**_CHANGE, **_DOCUMENT},
    ),
    Route(
        "POST",
        "/compile",
        documents.preview,
        "What the kernel would hold",
        {200: Reply("What the kernel would hold, and how that differs from now.", Preview)},
        "configuration",
        "Changes nothing.",
        body=Configuration,
        limit=LARGE,
        refusals=_DOCUMENT,
    ),
    Route(
        "GET",
        "/farms",
        documents.list_farms,
        "Every farm",
        {200: Reply("The farms by name.", Farms, tagged=True)},
        "farms",
    ),
    *_entries(
        documents.FARMS,
        Farm,
        FARM,
        put="Makes a snapshot of the configuration in force with this farm changed. JSON pointers of faults are those "
        "of the whole document: /farms/NAME/ports/0.",
    ),
    Route(
        "GET",
        "/farms/{name}/clients",
        clients.list_clients,
        "The clients that a farm remembers",
        {200: Reply("The clients; none for a farm without persistence.", ClientList)},
        "farms",
        query=(_CLIENT, _BACKEND, _CLIENTS),
        refusals=_NO_FARM_OR_BACKEND,
    ),
    Route(
        "DELETE",
        "/farms/{name}/clients",
        clients.forget_clients,
        "Forget clients of a farm",
        {200: Reply("They are forgotten: their next connections are balanced anew.", Forgotten)},
        "farms",
        "Without a parameter, all of them. Connections that are open stay where they are.",
        query=(_CLIENT, _BACKEND),
        refusals=_NO_FARM_OR_BACKEND,
    ),
    Route(
        "GET",
        "/network-lists",
        documents.list_lists,
        "Every network list",
        {200: Reply("The lists by name, without their networks.", NetworkLists, tagged=True)},
        "network lists",
    ),
    *_entries(
        documents.LISTS,
        NetworkList,
        LIST,
        put="Makes a snapshot of the configuration in force with this list changed. Only the networks that come or go "
        "are changed in the kernel.",
        delete="A list that a farm names is not removed: the faults say which farms.",
    ),
    Route(
        "GET",
        "/links",
        documents.list_links,
        "Every link that is configured",
        {200: Reply("The links by name; none: the first Ethernet link uses DHCP.", Links, tagged=True)},
        "links",
    ),
    *_entries(
        documents.LINKS,
        Link,
        SMALL,
        put="Makes a snapshot of the configuration in force with this link changed, and takes effect at once. Once a "
        "link is configured, exactly those that are are set up.",
        delete="A link whose networks farms need is not removed: the faults say which farms.",
    ),
    Route(
        "GET",
        "/snapshots",
        history.list_snapshots,
        "Snapshots, the newest first",
        {200: Reply("The snapshots without their documents.", SnapshotList)},
        "snapshots",
        query=(_LIMIT, _BEFORE),
    ),
    Route(
        "GET",
        "/snapshots/{number}",
        history.get_snapshot,
        "A snapshot with its document",
        {200: Reply("The snapshot.", Snapshot)},
        "snapshots",
        refusals=_NO_SNAPSHOT,
    ),
    Route(
        "GET",
        "/snapshots/{a}/diff/{b}",
        history.diff_snapshots,
        "What changed from snapshot a to snapshot b",
        {200: Reply("The changes.", Diff)},
        "snapshots",
        refusals=_NO_SNAPSHOT,
    ),
    Route(
        "POST",
        "/snapshots/{number}/rollback",
        history.rollback,
        "Put an earlier configuration in force",
        {200: _MADE},
        "snapshots",
        "Makes a new snapshot with the old document; history is never rewritten.",
        query=(_COMMENT,),
        conditional=True,
        refusals={**_CHANGE, **_NO_SNAPSHOT, **_DOCUMENT},
    ),
    Route(
        "GET",
        "/state",
        now.get_state,
        "Farms and backends as they are now",
        {200: Reply("Health, effective weights, connections and bytes.", StateNow)},
        "state",
    ),
    Route(
        "GET",
        "/system",
        now.get_system,
        "The appliance as it is now",
        {200: Reply("Version, links, memory, storage, and what is wrong.", SystemNow)},
        "state",
    ),
    Route(
        "POST",
        "/trace",
        now.trace,
        "Follow packets from a client to a service, and the answers",
        {200: Reply("What became of them, in words and step by step; no packet may have come.", Trace)},
        "state",
        "Waits for real packets, at most as long as the body says. Changes nothing of what is balanced.",
        body=TraceRequest,
        refusals={
            409: "Another trace is running; Retry-After says in how many seconds it has ended.",
            422: "The body has faults; `errors` has each with its JSON pointer.",
        },
    ),
    Route(
        "GET",
        "/metrics",
        now.get_metrics,
        "State for Prometheus",
        {200: Reply("Prometheus' text format.", media=metrics.CONTENT_TYPE, schema={"type": "string"})},
        "state",
    ),
    *ACCESS,
)
