# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m agent`: the command line, and `serve`, which is the agent itself."""

import sys

from agent.cli import main


def _serve() -> int:
    from agent.api.serve import serve  # noqa: PLC0415  no other command needs the server

    return serve()


if __name__ == "__main__":
    sys.exit(main(serve=_serve))
