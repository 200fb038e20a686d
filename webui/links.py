# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance's links: which there are and how each is set up; set up, change, leave alone."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from urllib.parse import urlsplit

from flask import Blueprint, render_template, request, url_for

from agent.model import Fault, Link
from agent.model.state import LinkNow, SystemNow
from agent.model.types import LINK_PATTERN
from webui import fields
from webui.entries import Answer, Deletion, Edit, EntryForm, known
from webui.faults import split
from webui.fields import Flag, Rate, Words, described
from webui.forms import sent
from webui.session import agent

blueprint = Blueprint("links", __name__, url_prefix="/system/links")

_NAME = re.compile(LINK_PATTERN)


class LinkForm(EntryForm):
    """A link that is there, or that the configuration knows."""

    dhcp = described(Flag, "Link", "dhcp")
    addresses = described(Words, "Link", "addresses")
    gateways = described(Words, "Link", "gateways")
    bandwidth = described(Rate, "Link", "bandwidth")


@dataclass(frozen=True)
class Row:
    """A link, as it is and as it is meant to be; None: it is not there, or not configured."""

    name: str
    now: LinkNow | None
    link: Link | None


def rows(system: SystemNow, links: Mapping[str, Link]) -> list[Row]:
    """Every link: those that are there in the kernel's order, then those that are only configured."""
    there = [Row(link.name, link, links.get(link.name)) for link in system.links]
    names = {row.name for row in there}
    return there + [Row(name, None, link) for name, link in sorted(links.items()) if name not in names]


@blueprint.route("/<name>", methods=["GET", "POST"])
def edit(name: str) -> Answer:
    """Ask how a link is to be set up, and set it up."""
    known(name, _NAME)
    current, system = agent().links(), agent().system()
    now = next((link for link in system.links if link.name == name), None)
    link = current.links.get(name)

    def page(form: LinkForm, top: Iterable[str] = (), status: int = 200) -> tuple[str, int]:
        more = {"now": now, "link": link, "first": not current.links, "here": _came_by(now)}
        return render_template("links/form.html", form=form, name=name, top=list(top), **more), status

    if request.method == "GET":
        # Without any link in the configuration, what has an address has it by DHCP.
        shown = link or Link(dhcp=not current.links and _addressed(now))
        return page(LinkForm(data=fields.shown(LinkForm, shown) | {"name": name, "snapshot": str(current.snapshot)}))
    form = LinkForm(sent())
    form.name.data = name
    wanted = Edit(
        name,
        "link",
        "links",
        "changed" if link else "set up",
        agent().put_link,
        lambda top, status: page(form, top, status),
        url_for("system.index"),
    )
    return wanted.save(form)


@blueprint.route("/<name>/delete", methods=["GET", "POST"])
def delete(name: str) -> Answer:
    """Say what it means to take a link out of the configuration, then do it."""
    known(name, _NAME)
    current, system = agent().links(), agent().system()
    now = next((link for link in system.links if link.name == name), None)
    removal = Deletion(
        name,
        "link",
        current.snapshot,
        agent().delete_link,
        here=url_for("links.edit", name=name),
        index=url_for("system.index"),
        explain=_needed_by,
    )
    last = not current.links.keys() - {name}
    return removal.answer("links/delete.html", link=current.links.get(name), last=last, here=_came_by(now))


def _came_by(now: LinkNow | None) -> str | None:
    """The address of this link that the browser came to, if it came to one."""
    host = urlsplit(f"//{request.host}").hostname
    found = (str(ip_interface(address).ip) for address in (now.addresses if now else ()))
    return next((address for address in found if address == host), None)


def _addressed(now: LinkNow | None) -> bool:
    interfaces = [ip_interface(address) for address in (now.addresses if now else ())]
    return any(each.version == 4 and each.network.num_addresses > 1 for each in interfaces)


def _needed_by(fault: Fault) -> str:
    path = split(fault.pointer)
    return f"Farm {path[1]} needs it: {fault.message}." if path[:1] == ["farms"] and path[1:] else fault.message
