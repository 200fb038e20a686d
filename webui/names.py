# SPDX-License-Identifier: GPL-2.0-or-later
"""How values of the model are called on the pages."""

from typing import Any

_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "all": "All protocols"}
_OPTIONS = {
    "dnat": "Destination NAT",
    "snat": "Source NAT",
    "stateless": "Stateless NAT",
    "direct": "Direct (layer 2)",
    "tunnel": "Tunnel (layer 3)",
    "round-robin": "Round robin",
    "weighted": "Weighted",
    "source-hash": "Source hash",
    "priority": "Priority",
    "none": "None",
    "address": "By address",
    "address-port": "By address and port",
    "enabled": "Enabled",
    "drain": "Drain",
    "disabled": "Disabled",
    "keep": "Keep its connections",
    "cut": "Cut its connections",
    "reject": "Reject",
    "drop": "Drop",
    "interactive": "Interactive",
    "normal": "Normal",
    "bulk": "Bulk",
    "answer": "An answer as any",
    "follow": "Follow",
    "text": "Text",
    "hex": "Hexadecimal",
    "required": "Required",
    "optional": "Optional",
}


def value_words(value: Any) -> str:
    """A value of a document, as people read it."""
    match value:
        case None:
            return "default"
        case True | False:
            return "yes" if value else "no"
        case list():
            return ", ".join(map(value_words, value)) or "none"
        case float():
            return f"{value:g}"
        case _:
            return option_title(str(value))


def option_title(value: str) -> str:
    """How a value of the model is called on the pages."""
    return _OPTIONS.get(value, _PROTOCOLS.get(value, value))
