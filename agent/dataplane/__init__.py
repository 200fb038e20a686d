# SPDX-License-Identifier: GPL-2.0-or-later
"""The data plane: a document and effective weights -> nftables; counters back.

    kernel = Kernel()
    ruleset = compile_ruleset(config, weights, own_addresses, previous=kernel.adopt(), near=near)  # at start
    kernel.check(ruleset); kernel.apply(ruleset)
    ruleset = compile_ruleset(new_config, weights, own_addresses, previous=ruleset, near=near)    # at every commit
    ruleset = reweigh(ruleset, {"web": {"b1": 1, "b2": 0}})                                        # at other changes
    kernel.check(ruleset); kernel.apply(ruleset)
    print(script(ruleset))                                                                         # needs no kernel

How it works is told in docs/dataplane.md.
"""

from agent.dataplane.assignment import Assignment, sorry_name
from agent.dataplane.clients import Client, Clients
from agent.dataplane.compile import compile_ruleset
from agent.dataplane.conntrack import answered
from agent.dataplane.counting import Counters
from agent.dataplane.kernel import Kernel
from agent.dataplane.offload import Offered
from agent.dataplane.refusal import KernelRefused
from agent.dataplane.reweigh import reweigh
from agent.dataplane.ruleset import Ruleset
from agent.dataplane.script import script
from agent.dataplane.summary import report
from agent.dataplane.telling import Known
from agent.dataplane.trace import Gathered
from agent.dataplane.tracer import CannotTrace, Tracer, link_name

__all__ = [
    "Assignment",
    "CannotTrace",
    "Client",
    "Clients",
    "Counters",
    "Gathered",
    "Kernel",
    "KernelRefused",
    "Known",
    "Offered",
    "Ruleset",
    "Tracer",
    "answered",
    "compile_ruleset",
    "link_name",
    "report",
    "reweigh",
    "script",
    "sorry_name",
]
