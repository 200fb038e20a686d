# SPDX-License-Identifier: GPL-2.0-or-later
"""Links over the API: endpoints like those of farms, and what is told of a link that cannot go."""

from pathlib import Path

import pytest

from agent.client import Problem
from agent.model import Link
from agent.tests.api_world import FARM, running

LINK = {"addresses": ["192.0.2.1/24"], "bandwidth": "20M"}


def test_links_have_endpoints_like_farms(tmp_path: Path):
    with running(tmp_path) as world:
        client = world.client()
        assert client.links().links == {}
        first = client.put_link("eth0", LINK, comment="a line")
        assert client.links().links == {"eth0": Link.model_validate(LINK)}
        assert client.links().snapshot == first.number
        client.put_farm("web", FARM)
        with pytest.raises(Problem) as used:
            client.put_link("eth0", {"addresses": ["203.0.113.1/24"]})
        assert used.value.status == 422
        assert "/farms/web/addresses/0" in [fault.pointer for fault in used.value.errors]
        with pytest.raises(Problem) as wrong:
            client.put_link("eth0", {"addresses": ["192.0.2.1"], "mtu": 9000})
        assert {fault.pointer for fault in wrong.value.errors} == {"/links/eth0/addresses/0", "/links/eth0/mtu"}
        with pytest.raises(Problem) as unnamed:
            client.put_link("Not a link", LINK)
        assert [fault.pointer for fault in unnamed.value.errors] == ["/links/Not a link"]
        with pytest.raises(Problem) as late:
            client.delete_link("eth0", parent=first.number)
        assert late.value.status == 412
        client.delete_link("eth0")
        with pytest.raises(Problem, match="There is no link") as missing:
            client.delete_link("eth0")
        assert missing.value.status == 404
