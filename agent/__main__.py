# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m agent`: the command line, and `serve`, which is the agent itself."""

import gc
import os
import sys

from agent.cli import main

THRESHOLDS = (50_000, 50, 100)
"""Of the garbage collector. A large document is hundreds of thousands of objects that all stay: with the usual ones a
third of the time that it takes to read one goes into looking for cycles among them."""


def _serve() -> int:
    gc.set_threshold(*THRESHOLDS)
    # aiohttp reads the certificates of all the world's authorities when it is imported, which is a tenth of the
    # start. The agent is a client of nobody.
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    os.environ.setdefault("SSL_CERT_DIR", os.devnull)
    from agent.api.serve import serve  # noqa: PLC0415  no other command needs the server

    return serve()


if __name__ == "__main__":
    sys.exit(main(serve=_serve))
