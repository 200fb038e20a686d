# SPDX-License-Identifier: GPL-2.0-or-later
"""Which remembered clients the API asks for, and its answer."""

from collections.abc import Sequence

from agent.dataplane import Client, Clients, Ruleset
from agent.model.answers import ClientList, ClientNow
from agent.model.types import Network


def find(
    clients: Clients, ruleset: Ruleset | None, farm: str, network: Network | None, backend: str | None
) -> list[Client]:
    """The clients that `farm` remembers: all, those in `network`, those of `backend`. Blocks. Raises OSError."""
    found = clients.remembered(ruleset, farm) if ruleset else []
    return [
        each
        for each in found
        if backend in (None, each.backend)
        and (network is None or (each.network.version == network.version and each.network.overlaps(network)))
    ]


def answer(found: Sequence[Client], limit: int | None) -> ClientList:
    """At most `limit` of these clients, and how many there are."""
    listed = [
        ClientNow(client=_name(each), port=each.port, backend=each.backend, expires_s=each.expires)
        for each in found[:limit]
    ]
    return ClientList(clients=listed, total=len(found))


def _name(client: Client) -> str:
    network = client.network
    return str(network if network.num_addresses > 1 else network.network_address)
