# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates of an authority of our own, secrets that hold them, and `openssl s_server`."""

import asyncio
import ssl
import tempfile
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from health_probes import SOON
from secret_world import certificate, openssl

from agent.access import secret_values
from agent.model.secret import SecretMissing

NAME = "www.example.com"


@cache
def authority(name="ours"):
    """Certificate and key of an authority, in PEM."""
    return certificate(f"/CN={name}")


@cache
def issued(days=90, name=NAME, by="ours", more=""):
    """A certificate of that authority that ends after so many days, followed by its key. It began long ago."""
    pem, key = authority(by)
    with tempfile.TemporaryDirectory() as place:
        at = Path(place)
        (at / "ca.pem").write_text(pem + key)
        request = openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                          str(at / "key.pem"), "-subj", f"/CN={name}")  # fmt: skip
        (at / "extensions").write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n{more}")
        # A minute more than whole days, so that a slow test counts the same.
        ends = openssl_time(days * 86_400 + 60)
        (at / "index").touch()
        (at / "serial").write_text("01\n")
        (at / "ca.conf").write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={at}/index\nserial={at}/serial\nnew_certs_dir={at}\n"
            "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
        )
        (at / "request").write_text(request)
        made = openssl("ca", "-batch", "-notext", "-config", str(at / "ca.conf"), "-cert", str(at / "ca.pem"),
                       "-keyfile", str(at / "ca.pem"), "-in", str(at / "request"), "-extfile", str(at / "extensions"),
                       "-startdate", openssl_time(-800 * 86_400), "-enddate", ends)  # fmt: skip
        return made + (at / "key.pem").read_text()


def openssl_time(seconds):
    """The moment so many seconds from now, as openssl takes it."""
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%SZ")


class Kept:
    """Secrets by name, as a SecretReader has them; counts how often a certificate or authorities are asked for."""

    def __init__(self, **values):
        self.values = values
        self.asked = 0

    def version(self, name):
        return self.values.get(name)

    def _value(self, name):
        self.asked += 1
        if name not in self.values:
            raise SecretMissing(f"the secret {name} is missing; set it")
        return self.values[name]

    def load_certificate(self, name, context):
        secret_values.load(self._value(name), context)

    def authorities(self, name):
        return self._value(name)


@asynccontextmanager
async def s_server(pem, *options, chain=""):
    """`openssl s_server` with this certificate and key; its port, when it accepts."""
    with tempfile.TemporaryDirectory() as place:
        at = Path(place)
        (at / "server.pem").write_text(pem)
        (at / "chain.pem").write_text(chain)
        (at / "ca.pem").write_text(authority()[0])
        more = ["-cert_chain", str(at / "chain.pem")] if chain else []
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(at / "server.pem"), "-CAfile",
            str(at / "ca.pem"), *more, *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(SOON):
                while not (line := await process.stdout.readline()).startswith(b"ACCEPT"):
                    assert line, "openssl s_server ended"
            # Its output is read on, so that it never waits for us.
            reading = asyncio.create_task(process.stdout.read())
            yield int(line.rpartition(b":")[2])
        finally:
            process.terminate()
            await process.wait()
            await reading


def server_context(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secret_values.load(pem, context)
    return context
