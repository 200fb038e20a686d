# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference of the configuration document, made of the model: docs/configuration.md is its output."""

import json
from collections.abc import Iterator
from typing import Any

from agent.model import CHECKS, VERSION, Configuration, parse

_HEAD = f"""\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made by `python3 -m agent reference`; change the model (agent/model/), not this file. -->
# The configuration document

One JSON document, version {VERSION}, says all an administrator means. It is the body of `PUT /api/v1/configuration`,
the content of every snapshot, the credential `sluice.configuration`, and what `sluice apply` and `sluice compile` read.

A field that is not listed here is a fault. Nothing is coerced: `"80"` is no port. A document is taken as a whole or not
at all, and every fault is told with its JSON pointer (RFC 6901).
"""

Schema = dict[str, Any]

_EXAMPLE = {
    "version": 1,
    "system": {"hostname": "lb1"},
    "links": {"eth0": {"addresses": ["192.0.2.1/24"], "gateways": ["192.0.2.254"]}},
    "farms": {
        "web": {
            "addresses": ["192.0.2.10"],
            "ports": [80, 443],
            "scheduler": "weighted",
            "checks": [{"type": "tcp", "interval": 5}],
            "backends": {
                "web1": {"address": "192.0.2.21", "weight": 3},
                "web2": {"address": "192.0.2.22", "weight": 1},
            },
        }
    },
}

_RULES = """\
## Rules that concern more than one field

- A farm may have IPv4 and IPv6 addresses. Each family is balanced by itself over the backends of that family, which
  it needs: the two are not translated into each other.
- An address, protocol and port belong to one enabled farm. The ports of a farm do not overlap.
- Where the protocol is `all`, it stands alone, `ports` is `["all"]`, and backends have no `port`. No address of a link
  can be taken so.
- A sorry server is of a family of the farm, one for each; where the protocol is `all`, it has no `port` either.
- The address of a backend or sorry server is no virtual address, and a farm names the same server and port once: one
  without a `port` is asked at the farm's, if that has one only.
- The backends that `persistence_static` names are the farm's, whether it has persistence or not.
- Farms with `stateless`, `direct` or `tunnel` have no protocol `all`, no limits (`limit_rate`, `limit_connections`,
  `limit_resets`, `strict_tcp`), no `log_prefix`, no `max_connections`, no network lists, no ceilings, DSCP or class of
  traffic, and no virtual address is a link's own. With the first two servers are in a network of a link; with
  `tunnel` none is an address of a link, and all farms together have 1024 servers at most.
- With `stateless` there is one virtual address of each IP family, ports are single ones, no server has a `port` where
  there are several, and no other enabled farm, but with `direct` or `tunnel`, asks the same server at the same protocol
  and port. All farms with `stateless` together have at most 400 000 combinations of server, protocol and port.
- With `direct` and `tunnel` a server's `port` is left out or the farm's only one, and each server stands once.
- A `source_pool` is for farms with `snat`. Its addresses are of the farm's families, in a network of a link, and no
  server, gateway or virtual address of a farm with `stateless`, `direct`, `tunnel` or network lists. All farms together
  have at most 64 different pools, of 4096 addresses.
- At most 64 farms have a `persistence_size`, together for 4194304 clients (times two for a farm of both IP families).
- The other farms with persistence have at most 256 different settings of it (kind, timeout, prefixes).
- All farms together have at most 256 different settings of limits for each IP family (bounds, prefix, action, strict,
  whether anything is logged), 192 different bounds (each limit with its prefix and, for a rate, its burst; both IP
  families together), and 1024 different pairs of `log_prefix` and `log_rate`; what has no effect makes no difference.
- All farms together have at most 256 different settings of `source-hash` (port, prefixes, `hash_backends`), 256
  different choices of `allow` and `deny`, and 256 different times in `flow_timeout` and `flow_timeout_udp`.
- `limit_resets` and `strict_tcp` are for farms that serve TCP. At a link's own address a farm with `limit_resets` has
  single ports only.
- `minimum_active` is 1 with the scheduler `priority`; there is no `slow_start` with `source-hash`.
- A check's timeout is at most its interval, its `retry_interval` between the two; its `address` is no virtual address,
  and reached as a backend is. A check by a protocol with ports names its port where the farm does not
  serve that protocol, or begins with a range and a backend has no port of its own; an ICMP check has none.
- An address stands on one link once; a gateway is in a network of its link and not its own address, one
  for each family.
- TCP port 443 of a link's own address is the GUI's.
- A network list that a farm names is there; a farm does not both allow and deny one. All lists together have 100 000
  networks at most.
- A virtual address is in a network of a link. Where a link uses DHCP this is known and checked at the commit only.
- A backend (but a disabled one) and a sorry server is in a network of a link, or a link has a gateway of its family.
  Where a link uses DHCP this is not asked: a lease may bring a gateway and routes.
- No virtual address, backend, sorry server or gateway is the address of a link's network itself or its broadcast
  address; in IPv6 none but a gateway is the network's first address, which is that of all its routers.
- Rules about addresses of farms concern enabled farms.
"""


def reference() -> str:
    """The reference as Markdown."""
    schema = Configuration.model_json_schema()
    parse(json.dumps(_EXAMPLE))  # an example that the model refuses must not be printed
    parts = [_HEAD, "## Example\n", "```json\n" + json.dumps(_EXAMPLE, indent=2) + "\n```\n"]
    parts += _section("The document", schema, schema["$defs"])
    places = {
        "System": "/system",
        "Link": "/links/LINK",
        "Farm": "/farms/FARM",
        "SorryServer": "/farms/FARM/sorry_servers/N",
        "NetworkList": "/network_lists/LIST",
        **{kind.__name__: "/farms/FARM/checks/N" for kind in CHECKS.values()},
        "Backend": "/farms/FARM/backends/BACKEND",
    }
    missing = schema["$defs"].keys() - places.keys()
    if missing:
        raise LookupError(f"no place in the document is known for {', '.join(sorted(missing))}")
    for name, place in places.items():
        parts += _section(name, schema["$defs"][name], schema["$defs"], place)
    return "\n".join([*parts, _RULES])


def _section(name: str, schema: Schema, definitions: Schema, place: str = "") -> Iterator[str]:
    yield f"## {name}\n"
    words = schema["description"] + (f" At `{place}`." if place else "")
    yield words + "\n"
    required = schema.get("required", [])
    yield "| Field | Type | Default | Meaning |\n|---|---|---|---|"
    for field, content in schema["properties"].items():
        default = "required" if field in required else _default(content)
        unit = f" In {_unit(content)}." if _unit(content) else ""
        described = definitions[_target(content)] if "$ref" in content else content
        meaning = described["description"]
        meaning += "" if meaning.endswith((".", "!", "?")) else "."
        yield f"| `{field}` | {_type(content)} | {default} | {meaning}{unit} |"
    yield ""


def _default(content: Schema) -> str:
    if "default" not in content:
        return "`{}`" if _type(content).startswith("object") or "$ref" in content else "`[]`"
    value = content["default"]
    return "none" if value is None else f"`{json.dumps(value)}`"


def _unit(content: Schema) -> str:
    units = {"s": "seconds", "days": "days"}
    return next((units[each["unit"]] for each in (content, *content.get("anyOf", ())) if each.get("unit") in units), "")


def _target(content: Schema) -> str:
    return str(content["$ref"].rsplit("/", 1)[1])


def _type(content: Schema) -> str:
    if "$ref" in content:
        name = _target(content)
        return f"[{name}](#{name.lower()})"
    options = [option for option in (content.get("anyOf") or content.get("oneOf", [])) if option.get("type") != "null"]
    if {option.get("format") for option in options} == {"ipv4", "ipv6"}:
        return "IP address"
    if options:
        return " or ".join(_type(option) for option in options)
    if "const" in content:
        return f"`{json.dumps(content['const'])}`"
    if "enum" in content:
        return ", ".join(f"`{json.dumps(value)}`" for value in content["enum"])
    kind = content["type"]
    describe = {"array": _array, "object": _object, "integer": _number, "number": _number, "string": _string}
    return describe[kind](content) if kind in describe else {"boolean": "true or false"}[kind]


def _array(content: Schema) -> str:
    least, most = content.get("minItems", 0), content.get("maxItems")
    return f"list, {least} to {most} long, of {_type(content['items'])}"


def _object(content: Schema) -> str:
    inner = content.get("additionalProperties") or next(iter(content["patternProperties"].values()))
    return f"object, at most {content['maxProperties']} names, of {_type(inner)}"


def _number(content: Schema) -> str:
    words = "whole number" if content["type"] == "integer" else "number"
    if "minimum" in content:
        words += f", {content['minimum']:.12g} to {content['maximum']:.12g}"
    return words


def _string(content: Schema) -> str:
    return "text like `" + content["pattern"].replace("|", "\\|") + "`" if "pattern" in content else "text"
