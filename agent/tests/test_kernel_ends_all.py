# SPDX-License-Identifier: GPL-2.0-or-later
"""How backends end with protocols that have no connections to lose: flows go to others at once."""

import select
import socket
from ipaddress import ip_address

import pytest
from kernel_flows import conntracked
from kernel_net import CLIENT, VIRTUAL, Box, backend_address, farm
from kernel_peers import PLENTY

from agent.dataplane import aborts
from agent.dataplane.aborts import Association

pytestmark = pytest.mark.kernel

GRE, EXPERIMENTAL = 47, 253
"""One that connection tracking takes apart, and one that it knows nothing of (RFC 3692), as it does of ESP."""


@pytest.fixture
def box():
    box = Box()
    yield box
    box.close()


def raw(opened, namespace, protocol, family, address=None):
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = opened.enter_context(namespace.run(socket.socket, kind, socket.SOCK_RAW, protocol))
    if address:
        sock.bind((address, 0))
    return sock


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
@pytest.mark.parametrize("protocol", [GRE, EXPERIMENTAL])
@pytest.mark.parametrize("reason", ["failed", "disabled", "removed"])
def test_flows_of_any_other_protocol_leave_a_backend_that_is_gone(box, opened, family, forwarding, protocol, reason):
    def both():
        return farm(1, 2, family=family, ports=("all",), protocols=["all"], forwarding=forwarding)

    backends = {
        raw(opened, box.backends, protocol, family, backend_address(number, family)): f"b{number}" for number in (1, 2)
    }
    client = raw(opened, box.client, protocol, family)

    def arrives():
        client.sendto(bytes(8), (VIRTUAL[family], 0))
        (sock,) = select.select([*backends], [], [], PLENTY)[0]
        sock.recv(1000)
        return backends[sock]

    web = both()
    box.apply({"whole": web})
    first = arrives()
    assert arrives() == first, "one flow"
    if reason == "removed":
        del web["backends"][first]
    elif reason == "disabled":
        web["backends"][first]["state"] = "disabled"
    box.apply({"whole": web}, {"whole": dict.fromkeys({"b1", "b2"} - {first}, 1)})
    other = arrives()
    assert other != first
    assert arrives() == other
    box.apply({"whole": both()})
    assert arrives() == other, "who has moved stays"


@pytest.mark.parametrize("family", [4, 6])
def test_what_ends_an_association_comes_from_the_service_and_is_not_tracked(box, opened, family):
    """Tracked, the client's next one from its port would be taken for a part of it."""
    service, client = (ip_address(each[family]).packed for each in (VIRTUAL, CLIENT))
    association = Association(service, 80, client, 40000, 0x01020304)
    box.apply({"web": farm(1, family=family, protocols=["sctp"])})
    arriving = raw(opened, box.client, socket.IPPROTO_SCTP, family, CLIENT[family])
    arriving.settimeout(PLENTY)
    box.balancer.run(aborts.tell, [association])
    data, (source, *_) = arriving.recvfrom(1000)
    assert data.endswith(aborts.packet(association))
    assert source == VIRTUAL[family]
    assert box.balancer.run(conntracked) == 0
