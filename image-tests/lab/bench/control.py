# SPDX-License-Identifier: GPL-2.0-or-later
"""The control plane at 10 000 farms of 10 backends, natively: `unshare --net python -m lab.bench.control PART`.

The agent's own controller, snapshots and kernel in an empty network namespace, as root. Prints one JSON object a
result; processor time is user and system of the process, so that what else the machine does counts little.
"""

import asyncio
import gc
import importlib
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lab.host import PROJECT

FARMS, BACKENDS = 10_000, 10
PORTS_EACH = 250
"""Farms that share an address."""
CHANGES, COMMITS, CONNECTIONS = 2000, 500, 50_000
CLIENTS = 32
TRIES = 101


def document(farms: int = FARMS) -> dict[str, Any]:
    """So many farms of ten backends, on the network of the link `front`."""
    backends = {f"b{number}": {"address": f"10.30.0.{10 + number}", "port": 8080} for number in range(BACKENDS)}
    return {
        "version": 1,
        "farms": {
            f"farm{number}": {
                "addresses": [f"10.20.0.{100 + number // PORTS_EACH}"],
                "ports": [1000 + number % PORTS_EACH],
                "backends": backends,
            }
            for number in range(farms)
        },
    }


def _say(name: str, measured: float, unit: str) -> None:
    print(json.dumps({"name": name, "measured": measured, "unit": unit}), flush=True)


def _processor(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def _network() -> None:
    """A link for each side, with its network."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - the other parts need none

    with IPRoute() as netlink:
        for name, address in (("front", "10.20.0.1"), ("back", "10.30.0.1")):
            netlink.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}-peer"})
            for each in (name, f"{name}-peer"):
                netlink.link("set", index=netlink.link_lookup(ifname=each)[0], state="up")
            netlink.addr("add", index=netlink.link_lookup(ifname=name)[0], address=address, prefixlen=16)


def load() -> None:
    """The ruleset of 10 000 farms into an empty kernel, and one weight of it changed."""
    from agent.dataplane import Kernel, compile_ruleset, reweigh  # noqa: PLC0415 - memory is measured in another part
    from agent.model import parse  # noqa: PLC0415 - as in each part: memory is measured in another

    text = json.dumps(document()).encode()
    seconds, config = _processor(lambda: parse(text))
    _say("document of 10 000 farms read and validated", seconds, "s")
    weights = {name: {b: v.weight for b, v in farm.backends.items()} for name, farm in config.farms.items()}
    seconds, ruleset = _processor(lambda: compile_ruleset(config, weights))
    _say("document of 10 000 farms compiled", seconds, "s")
    kernel = Kernel()
    seconds, _ = _processor(lambda: kernel.apply(ruleset))
    _say("load 10 000 farms of 10 backends", seconds, "s")
    clock, processor = [], []
    for number in range(TRIES):
        name = f"farm{number * 97}"
        changed = {**weights[name], "b3": 2}
        begin, began = time.perf_counter(), time.process_time()
        ruleset = reweigh(ruleset, {name: changed})
        kernel.apply(ruleset)
        processor.append((time.process_time() - began) * 1000)
        clock.append((time.perf_counter() - begin) * 1000)
    _say("one weight changed at 10 000 farms, decision to kernel", statistics.median(processor), "ms")
    _say("the same by the clock", statistics.median(clock), "ms")


def commit() -> None:
    """A commit of all, then commits of documents in which one farm differs, by the agent's controller."""
    _network()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        os.environ.update(SLUICE_DATA=f"{folder}/data", SLUICE_RUN=f"{folder}/run")
        for name in ("data", "run"):
            (Path(folder) / name).mkdir()
        asyncio.run(_commit())


async def _commit() -> None:
    from agent.controller import Controller  # noqa: PLC0415 - as in each part: memory is measured in another
    from agent.model import parse, validate  # noqa: PLC0415 - as in each part: memory is measured in another

    controller = Controller.from_environment()
    await controller.start()
    config = parse(json.dumps(document()).encode())
    await controller.commit(config, author="bench")
    _say("agent peak memory at 10 000 farms", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB")
    whole, single = [], []
    for number in range(5):
        # As the API does it: PUT of a document, which is read anew but for the farms that are as they were.
        content = document()
        content["farms"][f"farm{1000 * number}"] |= {"scheduler": "priority"}
        text = json.dumps(content).encode()
        begin = time.process_time()
        await controller.commit(controller.codec.parse(text, controller.config), author="bench")
        whole.append(time.process_time() - begin)
        # PUT of a farm.
        begin = time.process_time()
        now = {field: getattr(controller.config, field) for field in type(controller.config).model_fields}
        now["farms"] = {**controller.config.farms, f"farm{1000 * number}": document(1)["farms"]["farm0"]}
        now["farms"][f"farm{1000 * number}"]["ports"] = [2000 + number]
        await controller.commit(validate(now, controller.config), author="bench")
        single.append(time.process_time() - begin)
    _say("one farm changed in a document of 10 000: commit, validation included", statistics.median(whole), "s")
    _say("one farm put to 10 000: commit, validation included", statistics.median(single), "s")
    await controller.stop()


def lost() -> None:
    """Changes of every kind while clients open connections: how many fail. By the data plane, then by commits."""
    sys.path.insert(0, str(PROJECT / "agent/tests"))
    net: Any = importlib.import_module("kernel_net")
    for measure in (_changed, _committed):
        box = net.Box()
        try:
            servers = [box.serve(number) for number in (1, 2, 3)]
            measure(box, _kinds(net.farm), partial(_seen, servers))
        finally:
            box.close()


Change = tuple[dict[str, Any], dict[str, dict[str, int]] | None, dict[str, Any]]
"""Farms, effective weights (None: those of the document), and network lists."""


def _kinds(farm: Callable[..., dict[str, Any]]) -> list[Change]:
    """A change of every kind; none that turns a client of the load away. The first is where it begins."""
    web, three = farm(1, 2), farm(1, 2, 3)
    draining = farm(1, 2, 3)
    draining["backends"]["b3"]["state"] = "drain"
    friends, foes = {"networks": ["10.20.0.0/24"]}, {"networks": ["198.51.100.0/24", "203.0.113.7"]}
    return [
        ({"web": web}, None, {}),
        # Weights.
        ({"web": web}, {"web": {"b1": 3, "b2": 1}}, {}),
        ({"web": web}, {"web": {"b1": 1, "b2": 2}}, {}),
        # A backend is added, drained, removed, and fails.
        ({"web": three}, None, {}),
        ({"web": draining}, {"web": {"b1": 1, "b2": 1}}, {}),
        ({"web": web}, None, {}),
        ({"web": web}, {"web": {"b2": 1}}, {}),
        # Another farm comes and goes.
        ({"web": web, "other": farm(1, ports=(81,))}, None, {}),
        ({"web": web}, None, {}),
        # The farm's settings.
        ({"web": three | {"forwarding": "snat"}}, None, {}),
        ({"web": three | {"scheduler": "source-hash"}}, None, {}),
        ({"web": three | {"persistence": "address"}}, None, {}),
        ({"web": three | {"limit_rate": 100_000, "limit_burst": 100_000, "limit_connections": 65_535}}, None, {}),
        ({"web": three | {"limit_connections": 60_000, "limit_resets": 100_000, "strict_tcp": True}}, None, {}),
        ({"web": three | {"deny": ["foes"]}}, None, {"foes": foes}),
        ({"web": three | {"deny": ["foes"], "allow": ["friends"]}}, None, {"foes": foes, "friends": friends}),
        ({"web": three | {"allow": ["friends"]}}, None, {"friends": {"networks": ["10.20.0.0/16"]}}),
        ({"web": three | {"rate_in": "100G", "rate_out": "100G"}}, None, {}),
        ({"web": three | {"dscp_in": "af41", "dscp_out": 8, "traffic_class": "bulk"}}, None, {}),
        # Another document.
        ({"web": web, "more": farm(2, ports=("90-99",)), "udp": farm(3, protocols=["udp"])}, None, {}),
    ]


def _seen(servers: list[Any]) -> int:
    return sum(sum(server.seen.values()) for server in servers)


def _until(connections: int, count: Callable[[], int]) -> None:
    """Wait for so many: the changes are spread over the connections."""
    while count() < connections:
        time.sleep(0.001)  # the servers count without telling


def _say_lost(what: str, served: int, failures: list[str]) -> None:
    _say(f"connections lost in {what} under load", len(failures), f"of {served + len(failures)}")


def _changed(box: Any, kinds: list[Change], count: Callable[[], int]) -> None:
    box.apply(kinds[0][0])
    clients = box.load(CLIENTS)
    for number, (farms, weights, lists) in enumerate(itertools.islice(itertools.cycle(kinds), CHANGES)):
        box.apply(farms, weights, lists=lists)
        _until(number * CONNECTIONS // CHANGES, count)
    _say_lost(f"{CHANGES} changes", *clients.stop())


def _committed(box: Any, kinds: list[Change], count: Callable[[], int]) -> None:
    from agent.model import validate  # noqa: PLC0415 - as in each part: memory is measured in another

    async def story(agent: Any, _host: Any) -> None:
        documents = [validate({"farms": farms, "network_lists": lists}) for farms, _, lists in kinds]
        await agent.commit(documents[0], author="bench")
        clients = await asyncio.to_thread(box.load, CLIENTS)
        for number, wanted in enumerate(itertools.islice(itertools.cycle(documents), COMMITS)):
            await agent.commit(wanted, author="bench")
            await asyncio.to_thread(_until, number * CONNECTIONS // CHANGES, count)
        _say_lost(f"{COMMITS} commits", *await asyncio.to_thread(clients.stop))

    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        importlib.import_module("kernel_agent").Agent(box, Path(folder)).run(story)


PARTS = {"load": load, "commit": commit, "lost": lost}

if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    gc.set_threshold(*importlib.import_module("agent.__main__").THRESHOLDS)
    PARTS[sys.argv[1]]()
