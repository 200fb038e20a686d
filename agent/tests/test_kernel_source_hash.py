# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler `source-hash` with real packets: a client's connections go to the same backend."""

import pytest
from kernel_namespaces import add_addresses, add_route
from kernel_net import CLIENT, backend_address, farm, names, serving

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2, 3, families=(4, 6)) as box:
        yield box


@pytest.fixture
def sources(box):
    """Fifty addresses of the client, by family."""
    found = {4: [f"10.20.0.{number}" for number in range(150, 200)], 6: [f"fd00:20:0:{n:x}::1" for n in range(1, 51)]}
    box.client.run(add_addresses, "eth0", found[4] + found[6])
    box.balancer.run(add_route, "fd00:20::/48", CLIENT[6])
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_source_hash_sends_a_client_to_the_same_backend(box, sources, family):
    web = farm(1, 2, 3, family=family, scheduler="source-hash", protocols=["tcp", "udp"])
    box.apply({"web": web})
    first = {source: box.ask(family=family, source=source) for source in sources[family]}
    assert set(first.values()) == set(names(1, 2, 3, family=family))
    assert {source: box.ask(family=family, source=source) for source in sources[family]} == first
    # One leaves: its clients go elsewhere, the others' stay; and return with it.
    gone = backend_address(2, family)
    box.apply({"web": web}, {"web": {"b1": 1, "b3": 1}})
    without = {source: box.ask(family=family, source=source) for source in sources[family]}
    assert all(without[source] == before for source, before in first.items() if before != gone)
    assert gone not in without.values()
    # Another agent goes on with the same table.
    box.adopt()
    assert box.balancer.run(box.kernel._commands, box.compiled({"web": web}, {"web": {"b1": 1, "b3": 1}})) == []
    box.apply({"web": web})
    assert {source: box.ask(family=family, source=source) for source in sources[family]} == first


@pytest.mark.parametrize("family", [4, 6])
def test_source_hash_of_a_prefix_and_with_the_port(box, sources, family):
    web = farm(1, 2, 3, family=family, scheduler="source-hash", hash_prefix4=24, hash_prefix6=48)
    box.apply({"web": web})
    assert len({box.ask(family=family, source=source) for source in sources[family]}) == 1
    box.apply({"web": web | {"hash_port": True, "hash_prefix4": 32, "hash_prefix6": 128}})
    one = sources[family][0]
    assert {box.ask(family=family, source=one) for _ in range(60)} == set(names(1, 2, 3, family=family))


def test_the_largest_table_is_loaded_and_keeps_clients_when_backends_come_and_go(box, sources):
    web = farm(1, 2, 3, scheduler="source-hash", hash_backends=256, persistence="address-port")
    box.apply({"web": web})
    first = {source: box.ask(source=source) for source in sources[4]}
    two = farm(1, 3, scheduler="source-hash", hash_backends=256)
    box.apply({"web": two})
    without = {source: box.ask(source=source) for source in sources[4]}
    stay = [source for source, before in first.items() if before != backend_address(2)]
    assert all(without[source] == first[source] for source in stay)
    assert backend_address(2) not in without.values()
