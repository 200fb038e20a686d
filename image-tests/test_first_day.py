# SPDX-License-Identifier: GPL-2.0-or-later
"""An administrator's first day, in the browser: from the box out of the factory to balanced clients and back."""

from lab.appliance import VIRTUAL_ADDRESS, Appliance
from lab.browser import Window
from lab.client import REFUSED
from lab.gui import Gui
from lab.laboratory import Laboratory


def test_from_the_claim_code_to_balanced_clients_and_back(
    lab: Laboratory, appliance: Appliance, window: Window
) -> None:
    gui = Gui(window.page)

    # The box is claimed with the code that its console shows.
    window.page.goto("/")
    gui.claim(appliance.claim_code())
    gui.heading("Dashboard")
    gui.log_out()
    gui.log_in()
    appliance.log_in()
    before = appliance.snapshot()
    assert lab.client.get(VIRTUAL_ADDRESS, timeout=3) != "web1"

    # A farm with two real web servers on another segment; the clients are on a third.
    gui.new_farm("shop", VIRTUAL_ADDRESS, 80, lab.backends)
    gui.create()
    gui.heading("shop")
    gui.wait_backend("shop", "web1", "Healthy")
    gui.wait_backend("shop", "web2", "Healthy")
    with_farm = appliance.snapshot()
    answers = lab.client.turns(20, VIRTUAL_ADDRESS)
    assert sorted(answers[:2]) == ["web1", "web2"]
    assert answers == answers[:2] * 10

    # Weights 3:1.
    gui.edit_farm("shop")
    window.page.get_by_role("radio", name="Weighted").check()
    gui.backend_row("web1").get_by_label("Weight").fill("3")
    gui.commit("web1 is the bigger machine")
    gui.heading("shop")
    answers = lab.client.turns(40, VIRTUAL_ADDRESS)
    assert all(sorted(answers[at : at + 4]) == ["web1", "web1", "web1", "web2"] for at in range(0, 40, 4)), answers

    # A backend dies: after its check fell it gets no new connection. It returns: it gets them again.
    lab.backend("web1").stop()
    gui.wait_backend("shop", "web1", "Unhealthy")
    assert lab.client.tally(8, VIRTUAL_ADDRESS) == {"web2": 8}
    lab.backend("web1").start()
    gui.wait_backend("shop", "web1", "Healthy")
    assert lab.client.tally(8, VIRTUAL_ADDRESS) == {"web1": 6, "web2": 2}

    # A wrong address is shown at its field, and changes nothing.
    in_force = appliance.snapshot()
    window.expect_refusal(422)
    gui.edit_farm("shop")
    gui.backend_row("web2").get_by_label("Address").fill("10.30.0.300")
    gui.commit()
    wrong = gui.backend_row("web2").get_by_label("Address")
    assert any("10.30.0.300" in fault or "not an IP address" in fault for fault in gui.faults_of(wrong))
    assert wrong.input_value() == "10.30.0.300", "what was typed is kept"
    assert appliance.snapshot() == in_force
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 3, "web2": 1}

    # Rollback to before the farm: the clients are refused.
    gui.roll_back(before, "the shop moves")
    assert lab.client.get(VIRTUAL_ADDRESS, timeout=3) != "web1"
    gui.open_from_menu("Farms")
    gui.page.get_by_role("heading", name="There are no farms yet").wait_for()

    # Rollback of the rollback: balanced again.
    gui.roll_back(with_farm)
    gui.open_from_menu("Dashboard")
    gui.wait_backend("shop", "web1", "Healthy")
    gui.wait_backend("shop", "web2", "Healthy")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}


def test_clients_of_a_removed_farm_are_refused(lab: Laboratory, claimed: Appliance) -> None:
    """As long as another farm keeps the virtual address; with the last one the address goes, and nobody answers."""
    farm = {"addresses": [VIRTUAL_ADDRESS], "ports": [80], "backends": {"web1": {"address": lab.backends["web1"]}}}
    claimed.put_farm("shop", farm)
    claimed.put_farm("stay", {**farm, "ports": [8000]})
    before = claimed.snapshot()
    assert lab.client.get(VIRTUAL_ADDRESS) == "web1"

    claimed.must("DELETE", "/api/v1/farms/shop")
    assert lab.client.get(VIRTUAL_ADDRESS) == REFUSED

    claimed.must("POST", f"/api/v1/snapshots/{before}/rollback")
    assert lab.client.get(VIRTUAL_ADDRESS) == "web1"
