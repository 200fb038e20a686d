# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run`: the built appliance in QEMU with a client and two web servers, and its GUI for the browser at hand.

Everything is inside a lab and ends with it. PORT and FARM_PORT in the environment replace 8443 and 8080.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from lab.appliance import ADDRESS, VIRTUAL_ADDRESS, demo_farm
from lab.build import image_path, image_version
from lab.enter import enter, is_inside, listening_sockets
from lab.host import PROJECT, HostError, say
from lab.laboratory import Laboratory, factory_credentials
from lab.relay import Relay, Traffic

LOCAL = "127.0.0.1"


def port(name: str, default: int) -> int:
    """The port that environment variable `name` says, or the default; SystemExit if it is none."""
    text = os.environ.get(name, str(default))
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SystemExit(f"{name}={text} is not a port number")
    return int(text)


def enter_with_ports(module: str) -> int:
    """Run `module` in a lab, with the sockets for the user's browser open; return its exit status."""
    addresses = [(LOCAL, port("PORT", 8443)), (LOCAL, port("FARM_PORT", 8080))]
    try:
        return enter([sys.executable, "-m", module], addresses)
    except OSError as error:
        raise SystemExit(f"{error}: choose other ports with PORT= and FARM_PORT=") from None


def run_until_stopped(work: Callable[[ExitStack], None]) -> int:
    """Call `work` and, when it returns or the user or the system asks for an end, leave all contexts it entered.

    Returns the exit status.
    """

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with ExitStack() as stack:
            work(stack)
    except KeyboardInterrupt:
        say("stopped")
    except (RuntimeError, OSError, HostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def tell(seconds: float, password: str, *more: str) -> None:
    """Print how to reach the appliance."""
    lines = (
        f"Sluice {image_version()} is ready after {seconds:.0f} s.",
        "",
        f"  GUI        https://{LOCAL}:{port('PORT', 8443)}/   (made its own certificate: the browser will ask)",
        "  User       admin",
        f"  Password   {password}",
        f"  The farm   http://{LOCAL}:{port('FARM_PORT', 8080)}/   (as a client sees it: web1 and web2 in turn)",
        *(f"  {line}" for line in more),
        "",
        "Ctrl-C stops everything.",
    )
    print("\n" + "\n".join(lines) + "\n", flush=True)


def _run(stack: ExitStack) -> None:
    began = time.monotonic()
    password = secrets.token_urlsafe(9)
    lab = stack.enter_context(Laboratory())
    farms = {"demo": demo_farm(lab.backends)}
    appliance = lab.factory_appliance("run", factory_credentials(farms, admin_password=password))
    say(f"booting {image_path().name} in QEMU, with a client and two web servers")
    appliance.start()
    appliance.wait_ready()
    gui, farm = listening_sockets()
    stack.enter_context(Relay(gui, (ADDRESS, 443)))
    stack.enter_context(Relay(farm, (VIRTUAL_ADDRESS, 80), lab.client.host))
    stack.enter_context(Traffic(lambda: lab.client.get(VIRTUAL_ADDRESS, timeout=5)))
    console = (appliance.machine.folder / "console.log").relative_to(PROJECT)
    tell(time.monotonic() - began, password, f"Console    {console}")
    appliance.machine.wait_end()
    say("the appliance has switched itself off")


def main() -> int:
    """Enter a lab and run there until the user has enough."""
    if not is_inside():
        return enter_with_ports("lab.run")
    return run_until_stopped(_run)


if __name__ == "__main__":
    sys.exit(main())
