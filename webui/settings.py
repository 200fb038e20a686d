# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the GUI's settings come from: systemd's credentials on the appliance, the environment elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_BYTES = 32
"""The shortest key that session cookies are signed with."""

VENDOR = "/usr/share/javascript"
"""Where Debian's libjs-bootstrap5 and libjs-htmx put their files; SLUICE_VENDOR names another folder."""

DEFAULTS: Mapping[str, Any] = {
    # The prefix makes browsers refuse the cookie unless it is Secure, for the whole site and for this host only.
    "SESSION_COOKIE_NAME": "__Host-sluice",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_HTTPONLY": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    "SESSION_COOKIE_PATH": "/",
    # A farm of 256 backends is a form of 60 kB; nothing larger than this is read, nor let through by nginx, but lists.
    "MAX_CONTENT_LENGTH": 256 * 1024,
    "MAX_FORM_MEMORY_SIZE": 256 * 1024,
    "MAX_FORM_PARTS": 2000,
    "TEMPLATES_AUTO_RELOAD": False,
    "AGENT_SOCKET": None,
    # Seconds that the agent may take to answer: a page that asks again in two seconds waits least, a change longest.
    "AGENT_TIMEOUT_LIVE": 5.0,
    "AGENT_TIMEOUT": 15.0,
    "AGENT_TIMEOUT_CHANGE": 45.0,
}


class NoKey(RuntimeError):
    """There is no key to sign session cookies with. The text says where one is looked for."""


def session_key(environment: Mapping[str, str] = os.environ) -> bytes:
    """The key that signs session cookies: systemd's credential `session.key`, else the file SLUICE_SESSION_KEY_FILE.

    Raises NoKey when there is none, or when it is shorter than KEY_BYTES.
    """
    if "CREDENTIALS_DIRECTORY" in environment:
        path = Path(environment["CREDENTIALS_DIRECTORY"]) / "session.key"
    elif "SLUICE_SESSION_KEY_FILE" in environment:
        path = Path(environment["SLUICE_SESSION_KEY_FILE"])
    else:
        raise NoKey("no session key: give the credential session.key, or name its file in SLUICE_SESSION_KEY_FILE")
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise NoKey(f"the session key {path} can't be read: {error.strerror}") from None
    if len(key) < KEY_BYTES:
        raise NoKey(f"the session key {path} is shorter than {KEY_BYTES} bytes")
    return key


def vendor_folder(environment: Mapping[str, str] = os.environ) -> str:
    """The folder with bootstrap5/ and htmx/ (on the appliance nginx serves it, and Flask never does)."""
    return environment.get("SLUICE_VENDOR") or VENDOR
