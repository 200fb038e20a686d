# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator does in the GUI, step by step, by the names that the pages give to things."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

from lab.appliance import PASSWORD

PATIENCE = 60_000
"""Milliseconds that a page may take: the server is emulated and shares its two processors."""

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Gui:
    """The GUI in one browser window."""

    page: Page

    def claim(self, code: str, password: str = PASSWORD) -> None:
        """Fill in the set-up page and send it."""
        self.page.goto("/setup")
        self.page.get_by_label("Claim code").fill(code)
        self.page.get_by_label("New password").fill(password)
        self.page.get_by_label("Repeat the password").fill(password)
        self.page.get_by_role("button", name="Claim").click()

    def log_in(self, password: str = PASSWORD) -> None:
        """Fill in the log-in page and send it."""
        self.page.goto("/login")
        self.page.get_by_label("User").fill("admin")
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def log_out(self) -> None:
        """End the session."""
        self.page.get_by_role("button", name="Log out").click()
        self.heading("Log in")

    def change_password(self, current: str, new: str) -> None:
        """Go to the account's page, fill in its form and send it."""
        self.page.get_by_role("link", name="Account").click()
        self.heading("Account")
        self.page.get_by_label("Current password").fill(current)
        self.page.get_by_label("New password", exact=True).fill(new)
        self.page.get_by_label("Repeat the new password").fill(new)
        self.page.get_by_role("button", name="Change password").click()

    def heading(self, words: str) -> None:
        """Wait for the page with this heading."""
        expect(self.page.get_by_role("heading", level=1, name=words, exact=True)).to_be_visible()

    def note(self, words: str) -> None:
        """Wait for a message that has these words."""
        expect(self.page.get_by_role("status").filter(has_text=words)).to_be_visible()

    def open_from_menu(self, words: str) -> None:
        """Follow an entry of the main menu."""
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=words).click()
        self.heading(words)

    def new_farm(self, name: str, address: str, port: int, backends: Mapping[str, str]) -> None:
        """Open the form for a new farm and fill it in; `backends` are addresses by name. Does not send it."""
        self.open_from_menu("Farms")
        self.page.get_by_role("link", name="New farm").click()
        self.heading("New farm")
        service = self.page.get_by_role("region", name="Service")
        service.get_by_label("Name").fill(name)
        service.get_by_label("Virtual addresses").fill(address)
        service.get_by_label("Ports").fill(str(port))
        self.quick_check()
        for index, (backend, backend_address) in enumerate(backends.items(), 1):
            row = self.backend_row(index)
            row.get_by_label("Name").fill(backend)
            row.get_by_label("Address").fill(backend_address)

    def quick_check(self) -> None:
        """Make the form's check try every second, and come to a verdict after two tries."""
        checks = self.page.get_by_role("region", name="Checks")
        for label, value in (("Interval", "1"), ("Timeout", "1"), ("Fall", "2"), ("Rise", "2")):
            checks.get_by_label(label, exact=True).fill(value)

    def backend_row(self, name: str | int) -> Locator:
        """The row of a backend in a farm's form, by name, or by its place while it has none."""
        return self.page.get_by_role("group", name=f"Backend {name}", exact=True)

    def create(self) -> None:
        """Send the form for a new farm."""
        self.page.get_by_role("button", name="Create farm").click()

    def edit_farm(self, name: str) -> None:
        """Open the form of a farm that exists."""
        self.open_from_menu("Farms")
        self.page.get_by_role("link", name=f"Edit {name}").click()
        self.heading(f"Edit {name}")

    def commit(self, why: str = "") -> None:
        """Send the form of a farm that exists."""
        region = self.page.get_by_role("region", name="Commit")
        if why:
            region.get_by_label("Why").fill(why)
        region.get_by_role("button", name="Commit").click()

    def roll_back(self, number: int, why: str = "") -> None:
        """Roll back to a snapshot of the list."""
        self.open_from_menu("Snapshots")
        self.page.get_by_role("link", name=f"Roll back to snapshot {number}", exact=True).click()
        self.heading(f"Roll back to snapshot {number}?")
        if why:
            self.page.get_by_label("Why").fill(why)
        self.page.get_by_role("button", name=f"Roll back to {number}").click()
        self.note(f"Snapshot {number} is in force again")

    def wait_backend(self, farm: str, backend: str, word: str) -> None:
        """Wait, on the dashboard or the farm's page, until a backend is shown as `word` ("Healthy")."""
        row = (
            self.page.get_by_role("table", name=f"Backends of farm {farm}")
            .get_by_role("row")
            .filter(has=self.page.get_by_role("rowheader", name=backend, exact=True))
        )
        expect(row.get_by_text(word, exact=True)).to_be_visible()

    def faults_of(self, field: Locator) -> Sequence[str]:
        """The faults that are told at a field, as a screen reader finds them."""
        expect(field).to_have_attribute("aria-invalid", "true")
        ids = (field.get_attribute("aria-describedby") or "").split()
        found = [self.page.locator(f"[id='{one}']") for one in ids if one.endswith("-faults")]
        return [text for one in found for text in one.get_by_role("listitem").all_inner_texts()]
