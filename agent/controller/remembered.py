# SPDX-License-Identifier: GPL-2.0-or-later
"""Which remembered clients the API asks for, and its answer."""

from collections import Counter
from collections.abc import Sequence

from agent.dataplane import Client, Clients, Ruleset
from agent.model import Farm
from agent.model.answers import ClientList, ClientNow
from agent.model.types import Network


def find(
    clients: Clients, ruleset: Ruleset | None, farm: str, network: Network | None = None, backend: str | None = None
) -> list[Client]:
    """The clients that `farm` remembers: all, those in `network`, those of `backend`. Blocks. Raises OSError."""
    return _matching(clients.remembered(ruleset, farm) if ruleset else [], network, backend)


def _matching(found: Sequence[Client], network: Network | None, backend: str | None) -> list[Client]:
    return [
        each
        for each in found
        if backend in (None, each.backend)
        and (network is None or (each.network.version == network.version and each.network.overlaps(network)))
    ]


def answer(
    known: Sequence[Client], farm: Farm | None, network: Network | None, backend: str | None, limit: int | None
) -> ClientList:
    """At most `limit` of those `known` to `farm` that match, how many there are, and how full the farm is."""
    found = _matching(known, network, backend)
    listed = [
        ClientNow(client=_name(each), port=each.port, backend=each.backend, expires_s=each.expires)
        for each in found[:limit]
    ]
    size = farm.persistence_size if farm else None
    counts = Counter(each.network.version for each in known)
    full = size is not None and any(count >= size for count in counts.values())
    return ClientList(clients=listed, total=len(found), remembered=len(known), size=size, full=full)


def _name(client: Client) -> str:
    network = client.network
    return str(network if network.num_addresses > 1 else network.network_address)
