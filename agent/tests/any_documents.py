# SPDX-License-Identifier: GPL-2.0-or-later
"""Any valid document, with every setting that a farm has: for tests of what holds for all of them.

Each part is drawn by itself, from few addresses, ports and names, so that farms meet: they share chains, and addresses
move from one to another. Where parts do not go together, what the faults point at is taken out, until there
are none. Settings that have no strategy of their own here are drawn by their schema: a new one is in at once.
"""

import copy
from collections.abc import Callable, Collection
from typing import Any

from hypothesis import strategies as st

from agent.model import Configuration, Fault, Invalid, validate
from agent.model.checks import CHECKS
from agent.model.farm import Farm
from agent.model.types import DSCP_NAMES

Content = dict[str, Any]
Weights = dict[str, dict[str, int]]
Roles = dict[str, dict[str, str]]
Numbers = Callable[[Content], st.SearchStrategy[int]]

FAMILIES = (4, 6)
OWN = {4: ("10.20.0.1", "10.30.0.1"), 6: ("fd00:20::1", "fd00:30::1")}
"""The addresses of the links `front` and `back`."""
_VIRTUAL = {
    4: ["10.20.0.100", "10.20.0.101", "10.20.0.102", "10.20.0.103", OWN[4][0]],
    6: ["fd00:20::100", "fd00:20::101", "fd00:20::102", "fd00:20::103", OWN[6][0]],
}
_SERVERS = {
    4: ["10.30.0.11", "10.30.0.12", "10.30.0.13", "10.30.0.14", "10.50.1.2"],
    6: ["fd00:30::11", "fd00:30::12", "fd00:30::13", "fd00:30::14", "fd00:50::2"],
}
_SORRY = {4: "10.30.0.99", 6: "fd00:30::99"}
_SOURCES = {
    4: ["10.30.0.200", "10.30.0.208/29", "10.30.0.220-10.30.0.222"],
    6: ["fd00:30::200", "fd00:30::210/124", "fd00:30::220-fd00:30::222"],
}
_NETWORKS = {
    4: ["198.51.100.0/24", "198.51.100.0/25", "198.51.101.7", "203.0.113.0/24", "0.0.0.0/0"],
    6: ["2001:db8::/32", "2001:db8:1::/48", "2001:db8::7", "::/0"],
}
_ANY_NAME = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_FEW_NAMES = st.sampled_from(["b1", "b2", "b3", "b4", "b-5", "6"])
_LISTS = ["friends", "foes", "a-list"]
_STATES = {"enabled": ["failed", "standby", "full"], "drain": ["draining", "drained"], "disabled": ["disabled"]}
_SINGLE, _ALL = [80, 81, 443, 8080], "all"
_PORTS = st.one_of(
    st.lists(st.sampled_from(_SINGLE), min_size=1, max_size=3, unique=True),
    st.sampled_from([[_ALL], ["80-81"], [80, "82-90"], ["70-80", 443], ["8080-8081", "9000-9001"], [1, 65535]]),
)
_PORT = st.none() | st.sampled_from([80, 8080, 8081])
_PROTOCOLS = st.one_of(
    st.just(["tcp"]), st.lists(st.sampled_from(["tcp", "udp", "sctp"]), min_size=1, max_size=3, unique=True)
)
_RATES = st.none() | st.sampled_from([64_000, "64k", "20M", "1.5G", 100_000_000_000])
_DSCP = st.none() | st.integers(0, 63) | st.sampled_from(sorted(DSCP_NAMES))


def _numbers(schema: Content) -> st.SearchStrategy[int]:
    """Few, which farms then have in common: the least, the default, and one between."""
    least, most = schema["minimum"], schema["maximum"]
    usual = schema.get("default")
    return st.sampled_from(sorted({least, min(least + 23, most), *({usual} if usual is not None else ())}))


def _widely(schema: Content) -> st.SearchStrategy[int]:
    return st.integers(schema["minimum"], schema["maximum"])


def _by_schema(schema: Content, numbers: Numbers) -> st.SearchStrategy[Any] | None:
    """Any value of a field; None for texts, which have rules of their own."""
    if "anyOf" in schema:
        found = [each for each in (_by_schema(one, numbers) for one in schema["anyOf"]) if each is not None]
        return st.one_of(found) if len(found) == len(schema["anyOf"]) else None
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    plain = {
        "boolean": st.booleans,
        "null": st.none,
        "integer": lambda: numbers(schema),
        "number": lambda: st.floats(schema["minimum"], schema["maximum"]),
    }
    return plain[schema["type"]]() if schema.get("type") in plain else None


def _checks(numbers: Numbers) -> st.SearchStrategy[Content]:
    """A check of any kind that needs no text."""
    kinds = []
    for kind, model in CHECKS.items():
        schema = model.model_json_schema()
        fields = {name: _by_schema(each, numbers) for name, each in sorted(schema["properties"].items())}
        fields["address"] = st.sampled_from([None, _SORRY[4], _SORRY[6]])
        known = {name: field for name, field in fields.items() if field is not None and name != "type"}
        if not {*schema.get("required", ())} - known.keys() - {"type"}:
            kinds.append(st.fixed_dictionaries({"type": st.just(kind)}, optional=known))
    return st.one_of(kinds)


@st.composite
def _farms(
    draw: st.DrawFn,
    settings: dict[str, st.SearchStrategy[Any]],
    families: Collection[int],
    names: st.SearchStrategy[str],
) -> Content:
    mine = draw(st.sampled_from([[family] for family in families] + ([[*families]] if len(families) > 1 else [])))

    def some(places: dict[int, list[str]], least: int = 0, most: int = 3) -> list[str]:
        return [
            each
            for family in mine
            for each in draw(st.lists(st.sampled_from(places[family]), min_size=least, max_size=most, unique=True))
        ]

    farm: Content = draw(st.fixed_dictionaries({"protocols": _PROTOCOLS, "ports": _PORTS}, optional=settings))
    farm["addresses"] = some(_VIRTUAL, least=1)
    # Every family has servers, or there are none at all.
    servers = some(_SERVERS, least=draw(st.sampled_from([0, 1, 1, 1])), most=4)
    called = draw(st.lists(names, min_size=len(servers), max_size=len(servers)))
    farm["backends"] = {
        name: {
            "address": address,
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "port": _PORT,
                        "weight": st.integers(1, 256),
                        "tier": st.integers(1, 8),
                        "max_connections": st.none() | st.sampled_from([1, 1000]),
                        "state": st.sampled_from(sorted(_STATES)),
                    },
                )
            ),
        }
        for name, address in zip(called, servers, strict=True)
    }
    if draw(st.booleans()):
        farm["sorry_servers"] = [{"address": _SORRY[family], "port": draw(_PORT)} for family in mine]
    if farm.get("forwarding") == "snat":
        farm["source_pool"] = some(_SOURCES)
    if farm.get("persistence", "none") != "none" and servers:
        farm["persistence_static"] = {
            network: draw(st.sampled_from(sorted(farm["backends"]))) for network in some(_NETWORKS, most=2)
        }
    if draw(st.integers(0, 9)) == 0:
        farm |= {"protocols": ["all"], "ports": ["all"]}
    return farm


@st.composite
def any_documents(
    draw: st.DrawFn, *, widely: bool = False, families: Collection[int] = FAMILIES, without: Collection[str] = ()
) -> Content:
    """A valid document, as parsed JSON, with up to four farms.

    Args:
        widely: Numbers and names are any; else few of them, which farms have in common and cost the kernel little.
        families: The IP families of the farms.
        without: Ways of forwarding that no farm has.
    """
    known = draw(st.lists(st.sampled_from(_LISTS), unique=True))
    ways = [each for each in _schema("forwarding")["enum"] if each not in without]
    lists = st.lists(st.sampled_from(known), max_size=2, unique=True) if known else st.just([])
    settings: dict[str, st.SearchStrategy[Any]] = {
        "forwarding": st.sampled_from(ways),
        "hash_backends": st.integers(1, 256) if widely else st.sampled_from([4, 5, 10]),
        "persistence_size": st.none() | (st.integers(1, 1_048_576) if widely else st.sampled_from([1, 500])),
        "log_prefix": st.none() | st.sampled_from(["a", "Sluice.9_-"]),
        "allow": lists,
        "deny": lists,
        "rate_in": _RATES,
        "rate_out": _RATES,
        "dscp_in": _DSCP,
        "dscp_out": _DSCP,
    }
    drawn = {"addresses", "protocols", "ports", "backends", "sorry_servers", "source_pool", "persistence_static"}
    numbers = _widely if widely else _numbers
    settings["checks"] = st.lists(_checks(numbers), max_size=2)
    for name in Farm.model_fields.keys() - settings.keys() - drawn:
        found = _by_schema(_schema(name), numbers)
        assert found is not None, f"say here what {name} can be"
        settings[name] = found
    farm = _farms(dict(sorted(settings.items())), families, _ANY_NAME if widely else _FEW_NAMES)
    called = _ANY_NAME if widely else st.sampled_from("abcd")
    content: Content = {
        "version": 1,
        "system": {"hostname": draw(st.lists(_ANY_NAME, min_size=1, max_size=3).map(".".join))},
        "farms": draw(st.dictionaries(called, farm, min_size=draw(st.integers(0, 3)), max_size=4)),
        "network_lists": {
            name: {
                "description": draw(st.sampled_from(["", 'Who is welcome: ü, "quoted" and \\'])),
                "networks": draw(st.lists(st.sampled_from(_NETWORKS[4] + _NETWORKS[6]), unique=True)),
            }
            for name in known
        },
    }
    if draw(st.booleans()):
        content["links"] = draw(_links())
    return settled(content)


@st.composite
def _links(draw: st.DrawFn) -> Content:
    links: Content = {
        name: {"addresses": [f"{OWN[4][place]}/24", f"{OWN[6][place]}/64"], "dhcp": draw(st.booleans())}
        for place, name in enumerate(("front", "back"))
    }
    links["back"]["gateways"] = draw(st.lists(st.sampled_from(["10.30.0.254", "fd00:30::254"]), unique=True))
    links["front"]["bandwidth"] = draw(st.none() | st.sampled_from([1_000_000, "1G"]))
    return links


def _schema(field: str) -> Content:
    return dict(_PROPERTIES[field])


_PROPERTIES = Farm.model_json_schema()["properties"]


def settled(content: Content) -> Content:
    """The content without what its faults point at."""
    content = copy.deepcopy(content)  # what is sampled is the same object each time
    while found := _first_faults(content):
        for fault in found:
            _take_out(content, [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]])
    return content


def _first_faults(content: Content) -> list[Fault]:
    """The first fault of each setting of a farm, and of all that is none."""
    try:
        validate(content)
    except Invalid as invalid:
        first: dict[str, Fault] = {}
        for fault in invalid.faults:
            first.setdefault("/".join(fault.pointer.split("/")[:4]), fault)
        return list(first.values())
    return []


def _take_out(content: Content, path: list[str]) -> None:
    """Take out what the path leads to, or the smallest part that it is in and that can be missing."""
    parts: list[tuple[Any, Any]] = []
    place: Any = content
    for step in path:
        key = int(step) if isinstance(place, list) else step
        parts.append((place, key))
        if isinstance(place, list) and key >= len(place):
            return  # it has gone with an earlier fault
        if isinstance(place, dict) and key not in place:
            break  # what is at fault is a default, such as a timeout
        place = place[key]
    for place, key in reversed(parts):
        if isinstance(place, list) or (key in place and key not in ("addresses", "ports", "address")):
            del place[key]
            return
    raise AssertionError(f"nothing to take out at {path}")


@st.composite
def weights_of(draw: st.DrawFn, config: Configuration) -> tuple[Weights, Roles]:
    """Effective weights of the backends, and why they are so, as health and schedulers may make them."""
    weights: Weights = {}
    roles: Roles = {}
    for name, farm in config.farms.items():
        for backend, settings in farm.backends.items():
            able = settings.state == "enabled"
            weight = draw(st.sampled_from([0, 1, 1, 2, 3, 7, 256])) if able else 0
            weights.setdefault(name, {})[backend] = weight
            why = "active" if weight else draw(st.sampled_from(_STATES[settings.state]))
            roles.setdefault(name, {})[backend] = why
    return weights, roles
