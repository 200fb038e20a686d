# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces: what became of a client's packets to a farm, in words."""

from collections.abc import Iterator, Mapping

from flask import Blueprint, render_template, request
from wtforms import StringField

from agent.client import AgentDown, Problem
from agent.model import Farm, PortRange
from agent.model.trace import MAX_SECONDS, Service, Trace
from webui.csrf import EXPIRED, SafeForm
from webui.entries import known
from webui.fields import number
from webui.live import Sign
from webui.session import agent

blueprint = Blueprint("trace", __name__, url_prefix="/farms")

OUTCOMES: Mapping[str, Sign] = {
    "forwarded": Sign("good", "check", "Forwarded"),
    "appliance": Sign("info", "ring", "For the appliance"),
    "refused": Sign("bad", "cross", "Refused"),
    "dropped": Sign("bad", "cross", "Dropped"),
    "lost": Sign("warn", "triangle", "Given up"),
}


class TraceForm(SafeForm):
    """Asks whose packets to follow, where to, and for how long."""

    client = StringField(
        "Client",
        description="The address that it comes from, or address and port: `192.0.2.7` or `192.0.2.7:4000`.",
    )
    service = StringField(
        "Service", description="Where it connects to: `ADDRESS:PORT/PROTOCOL`, `ADDRESS/icmp`, or an address alone."
    )
    seconds = StringField("Wait", description=f"How long at most, for packets to come. 1 to {MAX_SECONDS} s.")

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.client, self.service, self.seconds):
            yield from ((field.id, field.label.text, words) for words in field.errors)


@blueprint.route("/<name>/trace", methods=["GET", "POST"])
def show(name: str) -> str | tuple[str, int]:
    """Ask whose packets to follow, then wait for them and tell what became of them."""
    farm = agent().farm(known(name)).farm
    form = TraceForm(request.form, data={"service": first_service(farm), "seconds": "10"})
    top: list[str] = []
    trace: Trace | None = None
    status = 200
    if request.method == "POST":
        if not form.validate():
            top, status = [EXPIRED], 400
        else:
            try:
                trace = _trace(form)
            except Problem as problem:
                if problem.status == 401:
                    raise
                top, status = _place(form, problem), problem.status
            except AgentDown as error:
                top, status = [f"The agent does not answer. {error}"], 503
    page = render_template("farms/trace.html", name=name, form=form, top=top, trace=trace, outcomes=OUTCOMES)
    return page, status


def first_service(farm: Farm) -> str:
    """The first address, port and protocol of a farm, as a trace is asked."""
    address = farm.addresses[0]
    protocol = farm.protocols[0]
    if protocol == "all" or farm.ports[0] == PortRange.all():
        return str(Service(address))
    return str(Service(address, farm.ports[0].first, protocol))


def _trace(form: TraceForm) -> Trace:
    content = {
        "from": (form.client.data or "").strip(),
        "to": (form.service.data or "").strip(),
        "seconds": number(form.seconds.data),
    }
    return agent().ask_trace({key: value for key, value in content.items() if value is not None})


def _place(form: TraceForm, problem: Problem) -> list[str]:
    """Give each fault to its field. What belongs to no field is returned, in words."""
    fields = {"/from": form.client, "/to": form.service, "/seconds": form.seconds}
    top = []
    for fault in problem.errors:
        field = fields.get(fault.pointer)
        if field is None:
            top.append(fault.message)
        else:
            field.errors = [*field.errors, fault.message]
    return top if problem.errors else [problem.detail]
