# SPDX-License-Identifier: GPL-2.0-or-later
"""One method for each endpoint of the API, with typed arguments and results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, RootModel, ValidationError

from agent.client.connection import AgentDown, Answer, Connection
from agent.model import Configuration, Farm, Link, NetworkList
from agent.model.answers import (
    ClaimState,
    ClientList,
    Console,
    Diff,
    Forgotten,
    JsonObject,
    NetworkListInfo,
    NetworkLists,
    PasswordChanged,
    Preview,
    SecretInfo,
    SecretList,
    Session,
    Snapshot,
    SnapshotInfo,
    SnapshotList,
)
from agent.model.secret import SecretKind
from agent.model.state import StateNow, SystemNow
from agent.model.trace import MAX_SECONDS, Trace

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class CurrentConfiguration:
    """The configuration in force and its snapshot's number, the `parent` of a change that is made from it."""

    document: Configuration
    snapshot: int


@dataclass(frozen=True)
class CurrentFarms:
    """The farms in force and the snapshot's number."""

    farms: dict[str, Farm]
    snapshot: int


@dataclass(frozen=True)
class CurrentLinks:
    """The links that are configured, by name, and the snapshot's number."""

    links: dict[str, Link]
    snapshot: int


@dataclass(frozen=True)
class CurrentLists:
    """The network lists in force, without their networks, and the snapshot's number."""

    lists: dict[str, NetworkListInfo]
    snapshot: int


@dataclass(frozen=True)
class CurrentList:
    """A network list in force and the snapshot's number."""

    content: NetworkList
    snapshot: int


@dataclass(frozen=True)
class CurrentFarm:
    """A farm in force and the snapshot's number."""

    farm: Farm
    snapshot: int


class Client(Connection):
    """The API of the agent. Every method raises AgentDown and Problem; Connection has the arguments.

    Where a method takes `parent`, the change is refused (Problem 412 with `current`) unless that snapshot is in force;
    None changes whatever is in force.
    """

    def acting(self, *, token: str | None = None, source: str | None = None) -> "Client":
        """A client of the same agent for another session and source address."""
        return Client(self.path, token=token, source=source, timeout=self.timeout)

    # access

    def claimed(self) -> bool:
        """Whether the appliance has an administrator. Needs no token."""
        return _typed(ClaimState, self.request("GET", "/claim")).claimed

    def claim(self, code: str, password: str) -> Session:
        """Become the administrator of an unclaimed appliance; the result is a session of `admin`. Needs no token.

        Problem 403: the code is wrong; 409: already claimed; 422: the password is not fit; 429: tried too often.
        """
        return _typed(Session, self.request("POST", "/claim", content={"code": code, "password": password}))

    def login(self, user: str, password: str) -> Session:
        """Begin a session. Needs no token. Problem 401: wrong; 429: tried too often (`retry_after`)."""
        return _typed(Session, self.request("POST", "/sessions", content={"user": user, "password": password}))

    def logout(self) -> None:
        """End the session whose token this client bears."""
        self.request("DELETE", "/sessions/current")

    def change_password(self, current: str, new: str) -> int:
        """Change the administrator's password; the number of other sessions, which have ended. Needs a session.

        Problem 403: `current` is wrong (its fault is at /current), or an API token asks; 422: `new` is not fit (/new);
        429: tried too often.
        """
        content = {"current": current, "new": new}
        return _typed(PasswordChanged, self.request("PUT", "/password", content=content)).sessions_ended

    # configuration

    def configuration(self) -> CurrentConfiguration:
        """The configuration in force."""
        answer = self.request("GET", "/configuration")
        return CurrentConfiguration(_typed(Configuration, answer), answer.snapshot)

    def commit(
        self, document: Configuration | Mapping[str, Any], *, comment: str = "", parent: int | None = None
    ) -> SnapshotInfo:
        """Put a whole configuration in force. Problem 422 bears every fault; nothing has changed then."""
        answer = self.request("PUT", "/configuration", query=_comment(comment), content=_plain(document), parent=parent)
        return _typed(SnapshotInfo, answer)

    def farms(self) -> CurrentFarms:
        """Every farm in force, by name."""
        answer = self.request("GET", "/farms")
        content = answer.json()
        if not isinstance(content, dict):
            raise AgentDown("The agent's answer is not what this version understands.")
        return CurrentFarms({name: _checked(Farm, farm) for name, farm in content.items()}, answer.snapshot)

    def farm(self, name: str) -> CurrentFarm:
        """One farm in force. Problem 404: there is none of this name."""
        answer = self.request("GET", f"/farms/{_segment(name)}")
        return CurrentFarm(_typed(Farm, answer), answer.snapshot)

    def put_farm(
        self, name: str, farm: Farm | Mapping[str, Any], *, comment: str = "", parent: int | None = None
    ) -> SnapshotInfo:
        """Create or replace a farm. Problem 422 bears every fault, pointers begin with /farms/NAME."""
        return self._put("farms", name, farm, comment, parent)

    def delete_farm(self, name: str, *, comment: str = "", parent: int | None = None) -> SnapshotInfo:
        """Remove a farm. Problem 404: there is none of this name."""
        return self._delete("farms", name, comment, parent)

    def network_lists(self) -> CurrentLists:
        """Every network list in force, by name, without its networks."""
        answer = self.request("GET", "/network-lists")
        return CurrentLists(_typed(NetworkLists, answer).root, answer.snapshot)

    def network_list(self, name: str) -> CurrentList:
        """One network list in force. Problem 404: there is none of this name."""
        answer = self.request("GET", f"/network-lists/{_segment(name)}")
        return CurrentList(_typed(NetworkList, answer), answer.snapshot)

    def put_network_list(
        self, name: str, content: NetworkList | Mapping[str, Any], *, comment: str = "", parent: int | None = None
    ) -> SnapshotInfo:
        """Create or replace a network list. Problem 422 bears every fault."""
        return self._put("network-lists", name, content, comment, parent)

    def delete_network_list(self, name: str, *, comment: str = "", parent: int | None = None) -> SnapshotInfo:
        """Remove a network list. Problem 404: there is none of this name; 422: a farm names it."""
        return self._delete("network-lists", name, comment, parent)

    def links(self) -> CurrentLinks:
        """Every link that is configured, by name; none: the first Ethernet link uses DHCP."""
        answer = self.request("GET", "/links")
        return CurrentLinks(_typed(RootModel[dict[str, Link]], answer).root, answer.snapshot)

    def put_link(
        self, name: str, link: Link | Mapping[str, Any], *, comment: str = "", parent: int | None = None
    ) -> SnapshotInfo:
        """Set a link up, or change it, at once. Problem 422 bears every fault."""
        return self._put("links", name, link, comment, parent)

    def delete_link(self, name: str, *, comment: str = "", parent: int | None = None) -> SnapshotInfo:
        """Take a link out of the configuration. Problem 404: it is not there; 422: a farm needs its networks."""
        return self._delete("links", name, comment, parent)

    def _put(
        self, shelf: str, name: str, content: BaseModel | Mapping[str, Any], comment: str, parent: int | None
    ) -> SnapshotInfo:
        path = f"/{shelf}/{_segment(name)}"
        answer = self.request("PUT", path, query=_comment(comment), content=_plain(content), parent=parent)
        return _typed(SnapshotInfo, answer)

    def _delete(self, shelf: str, name: str, comment: str, parent: int | None) -> SnapshotInfo:
        path = f"/{shelf}/{_segment(name)}"
        return _typed(SnapshotInfo, self.request("DELETE", path, query=_comment(comment), parent=parent))

    def clients(
        self, farm: str, *, client: str | None = None, backend: str | None = None, limit: int | None = None
    ) -> ClientList:
        """The clients that a farm remembers: all, those in the network `client`, those of `backend`. Problem 404."""
        query = {"client": client, "backend": backend, "limit": limit}
        return _typed(ClientList, self.request("GET", f"/farms/{_segment(farm)}/clients", query=query))

    def forget_clients(self, farm: str, *, client: str | None = None, backend: str | None = None) -> int:
        """Forget these clients; how many there were. Problem 404."""
        query = {"client": client, "backend": backend}
        answer = self.request("DELETE", f"/farms/{_segment(farm)}/clients", query=query)
        return _typed(Forgotten, answer).forgotten

    def compile(self, document: Configuration | Mapping[str, Any]) -> Preview:
        """What the kernel would hold, and how that differs from now. Changes nothing. Problem 422: its faults."""
        return _typed(Preview, self.request("POST", "/compile", content=_plain(document)))

    # snapshots

    def snapshots(self, *, limit: int = 50, before: int | None = None) -> SnapshotList:
        """The newest snapshots, or those with numbers below `before`; at most `limit` (1 to 500)."""
        return _typed(SnapshotList, self.request("GET", "/snapshots", query={"limit": limit, "before": before}))

    def snapshot(self, number: int) -> Snapshot:
        """A snapshot with its document. Problem 404."""
        return _typed(Snapshot, self.request("GET", f"/snapshots/{number}"))

    def diff(self, before: int, to: int) -> Diff:
        """What changed from snapshot `before` to snapshot `to`. Problem 404."""
        return _typed(Diff, self.request("GET", f"/snapshots/{before}/diff/{to}"))

    def rollback(self, number: int, *, comment: str = "", parent: int | None = None) -> SnapshotInfo:
        """Put the document of an earlier snapshot in force, as a new snapshot. Problem 404."""
        answer = self.request("POST", f"/snapshots/{number}/rollback", query=_comment(comment), parent=parent)
        return _typed(SnapshotInfo, answer)

    # secrets

    def secrets(self) -> dict[str, SecretInfo]:
        """Every secret by name, without its value."""
        return _typed(SecretList, self.request("GET", "/secrets")).root

    def put_secret(self, name: str, kind: SecretKind, value: str) -> SecretInfo:
        """Set or replace a secret, at once. Problem 409: it is named as another kind; 422: its faults."""
        path = f"/secrets/{_segment(name)}"
        return _typed(SecretInfo, self.request("PUT", path, content={"kind": kind, "value": value}))

    def delete_secret(self, name: str, *, force: bool = False) -> None:
        """Erase a secret. Problem 404; 409 (but with `force`): the configuration in force names it."""
        self.request("DELETE", f"/secrets/{_segment(name)}", query={"force": 1 if force else None})

    # state

    def state(self) -> StateNow:
        """Every farm and backend as it is now."""
        return _typed(StateNow, self.request("GET", "/state"))

    def system(self) -> SystemNow:
        """The appliance as it is now."""
        return _typed(SystemNow, self.request("GET", "/system"))

    def trace(self, client: str, service: str, *, seconds: int = 10, count: int = 10) -> Trace:
        """Follow packets from `client` to `service` for at most `seconds`, or until there are `count`.

        Problem 409: another trace is running (`retry_after`); 422: faults at /from, /to, /seconds, /count.
        """
        return self.ask_trace({"from": client, "to": service, "seconds": seconds, "count": count})

    def ask_trace(self, content: Mapping[str, Any]) -> Trace:
        """As `trace`, with what was typed: TraceRequest in JSON, whatever it is."""
        waiting = Client(self.path, token=self.token, source=self.source, timeout=self.timeout + MAX_SECONDS)
        return _typed(Trace, waiting.request("POST", "/trace", content=dict(content)))

    def metrics(self) -> str:
        """The state as Prometheus' text format has it."""
        return self.request("GET", "/metrics").body.decode()

    def console(self) -> Console:
        """What the console shows, with the claim code. Problem 403 for all but the console's user (and root)."""
        return _typed(Console, self.request("GET", "/console"))

    def openapi(self) -> JsonObject:
        """The OpenAPI document. Needs no token."""
        content: JsonObject = self.request("GET", "/openapi.json").json()
        return content


def _typed(model: type[M], answer: Answer) -> M:
    return _checked(model, answer.json())


def _checked(model: type[M], content: Any) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AgentDown(f"The agent's answer is not what this version understands: {where}: {first['msg']}.") from None


def _plain(content: BaseModel | Mapping[str, Any]) -> Any:
    return content.model_dump(mode="json") if isinstance(content, BaseModel) else dict(content)


def _segment(name: str) -> str:
    # A name that the agent must refuse is still one segment of the path, whatever it contains.
    return quote(name, safe="")


def _comment(comment: str) -> dict[str, str | int | None]:
    return {"comment": comment or None}
