# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's Chromium, driven by Playwright: one browser for all stories, a window of its own for each."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, sync_playwright

from lab.appliance import ADDRESS

CHROMIUM = "/usr/bin/chromium"

# The lab is a sandbox already, and root in it cannot have Chromium's; the rest keeps it from calling home.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-default-apps",
)  # fmt: skip

DESKTOP = (1280, 800)
PHONE = (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """A browser window with cookies of its own, which remembers what the browser complained about."""

    context: BrowserContext
    page: Page
    expected: list[str] = field(default_factory=list)
    """Regular expressions for complaints that a story means to provoke."""
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls, browser: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scripts: bool = True
    ) -> "Window":
        """Open a window of `size` (width, height in pixels) for the appliance's GUI."""
        context = browser.new_context(
            base_url=f"https://{ADDRESS}",
            # The appliance's key was made a minute ago; nobody can vouch for it yet.
            ignore_https_errors=True,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            reduced_motion="reduce",
        )
        context.set_default_timeout(60_000)
        context.tracing.start(screenshots=True, snapshots=True)
        window = cls(context, context.new_page())
        window.page.on("console", window._heard)
        window.page.on("pageerror", window._raised)
        return window

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _raised(self, error: Error) -> None:
        self.complaints.append(f"uncaught: {error.message}")

    @property
    def faults(self) -> Sequence[str]:
        """The complaints that nobody expects."""
        return [text for text in self.complaints if not any(re.search(one, text) for one in self.expected)]

    def expect_refusal(self, status: int) -> None:
        """Say that the story makes the server answer with `status`, which the browser reports on its console."""
        self.expected.append(rf"the server responded with a status of {status}\b")
        # The same in htmx's words.
        self.expected.append(rf"Response Status Error Code {status} from")

    def screenshot(self, path: Path, *, full: bool = True) -> None:
        """Write what the window shows (with `full`: the whole page) to `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=full, animations="disabled")

    def close(self, keep: Path | None = None) -> None:
        """Close the window; with `keep`, leave screenshot, page, complaints and trace in that folder."""
        if keep is None:
            self.context.tracing.stop()
        else:
            try:
                self.screenshot(keep / "browser.png")
                (keep / "browser.html").write_text(self.page.content(), encoding="utf-8")
            except Error as error:
                self.complaints.append(f"no picture: {error.message}")
            (keep / "browser.txt").write_text("\n".join(self.complaints), encoding="utf-8")
            self.context.tracing.stop(path=keep / "trace.zip")
        self.context.close()
