# SPDX-License-Identifier: GPL-2.0-or-later
"""The clients that farms with persistence remember: listed and forgotten. The maps are the packets' own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from threading import Lock
from typing import Any

from agent.dataplane.assignment import Side, sorry_name
from agent.dataplane.forwarded import backend_of
from agent.dataplane.persistence import Persistence, mark_of
from agent.dataplane.ruleset import Part, Ruleset
from agent.dataplane.tables import FARM, table_of

_AT_ONCE = 500
"""Elements in a transaction that forgets."""


@dataclass(frozen=True)
class Client:
    """A client that is remembered: `network` is one address, or what the farm takes for one client. In seconds."""

    network: IPv4Network | IPv6Network
    port: int | None
    backend: str
    expires: float
    set_name: str
    key: str
    """Where the kernel has it, in the notation of nft."""


class Clients:
    """The edge to the maps of clients, of the network namespace that the first call was made in.

    Any thread may call, and may have to wait for another. A million clients take some seconds. Raises OSError.
    """

    def __init__(self) -> None:
        self._nft: Any = None
        self._lock = Lock()

    def remembered(self, ruleset: Ruleset, farm: str) -> list[Client]:
        """Everybody whom `farm` remembers now, in the order of addresses and ports."""
        found = [client for side, part in ruleset.sides(farm) for client in self._of(side, part)]
        return sorted(found, key=lambda each: (each.network.version, each.network, each.port or 0))

    def forget(self, clients: Sequence[Client]) -> int:
        """Forget these; how many there still were. Their next connections are balanced anew."""
        return sum(self._forget(list(clients[at : at + _AT_ONCE])) for at in range(0, len(clients), _AT_ONCE))

    def _of(self, side: Side, part: Part) -> Iterator[Client]:
        way = Persistence.of(part.farm, side.family, part.numbers.mark)
        if way is None:
            return
        sorry = part.farm.sorry_server(side.family)
        backends = {mark: key[0] for key, mark in part.numbers.backends.items()}
        said = {sorry_name(sorry): "sorry server"} if sorry else {}
        for item, mark in self._listed(way.set_name):
            farm, *words = item["val"]["concat"]
            if mark_of(farm, ingress=way.ingress) == part.numbers.mark:
                port, address = (words[0], words[1]) if way.port else (None, words[0])
                own = part.numbers.mark | FARM if way.ingress else part.numbers.mark
                key = " . ".join(map(str, (own, *words)))
                # What a backend was called that is there no more is not known; it is never asked again.
                name = backends.get(backend_of(mark), "")
                name = said.get(name, name)
                yield Client(_network(address, way.prefix), port, name, float(item["expires"]), way.set_name, key)

    def _listed(self, set_name: str) -> Iterator[tuple[Mapping[str, Any], int]]:
        answer = json.loads(self._ask(f"list map {table_of(set_name)} {set_name}"))
        for part in answer["nftables"]:
            for element, mark in part.get("map", {}).get("elem", []):
                yield element["elem"], mark

    def _forget(self, clients: list[Client]) -> int:
        commands = [
            f"delete element {table_of(client.set_name)} {client.set_name} {{ {client.key} }}" for client in clients
        ]
        try:
            self._ask("; ".join(commands))
        except FileNotFoundError:
            # One went by itself, and took the whole transaction with it.
            if len(clients) == 1:
                return 0
            middle = len(clients) // 2
            return self._forget(clients[:middle]) + self._forget(clients[middle:])
        return len(clients)

    def _ask(self, command: str) -> str:
        with self._lock:
            if self._nft is None:
                self._nft = _context()
            code, output, error = self._nft.cmd(command)
        if code == 0:
            return str(output)
        if "No such file or directory" in error:
            raise FileNotFoundError(error)
        raise OSError(f"nftables: {error.strip().splitlines()[0] if error.strip() else 'no reason was given'}")


def _context() -> Any:
    try:
        from nftables import Nftables  # noqa: PLC0415 - a build host compiles without it

        context = Nftables()
    except (ImportError, OSError) as error:
        raise OSError(f"libnftables is missing: {error}") from None
    context.set_json_output(True)
    return context


def _network(address: str, prefix: int) -> IPv4Network | IPv6Network:
    whole = ip_network(address)
    network = whole.supernet(new_prefix=prefix) if prefix < whole.prefixlen else whole
    # Remembered before the prefix was made shorter: it is that one address.
    return network if network.network_address == whole.network_address else whole
