# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker, with real sockets where sockets matter and a probe that the test answers where order matters."""

import asyncio
import errno
import os
import resource
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from health_probes import SOON, Answers, checking, target

from agent.health import Checker, CheckFailed, CheckNotMade
from agent.health.probe import failure
from agent.health.tcp import TcpProbe


@contextmanager
def listener(port=0, host="127.0.0.1", backlog=64):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
        yield sock


@contextmanager
def silent():
    """A port whose listener is full: the kernel drops further SYNs, as a host that does not answer."""
    with ExitStack() as stack:
        sock = stack.enter_context(listener(backlog=0))
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(sock.getsockname())
            except TimeoutError:
                break
        yield sock.getsockname()[1]


@pytest.fixture
def free_port():
    with listener() as sock:
        return sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_listener_is_healthy_at_the_first_try(host):
    with listener(host=host) as sock:
        port = sock.getsockname()[1]
        asked = target(port, host=host, rise=50)
        async with checking([asked]) as (checker, changes):
            assert checker.verdict(asked).health == "unknown"
            changed, verdict = await changes.get()
            assert (changed, verdict.health, verdict.reason) == (asked, "healthy", f"TCP port {port} answers")
            assert verdict.since is not None
            assert 0 < verdict.latency_ms < 5000
            assert checker.verdict(asked).health == "healthy"


async def test_a_closed_port_falls_after_as_many_tries_as_set(free_port):
    asked = target(free_port, fall=3)
    async with checking([asked]) as (_, changes):
        _, verdict = await changes.get()
        assert (verdict.health, verdict.reason) == ("unhealthy", f"TCP port {free_port}: connection refused")
        assert verdict.latency_ms is None


async def test_a_silent_host_fails_when_the_time_is_over():
    with silent() as port:
        asked = target(port, timeout=0.2, fall=2)
        async with checking([asked]) as (_, changes):
            start = asyncio.get_running_loop().time()
            _, verdict = await changes.get()
            assert verdict.reason == f"TCP port {port}: no answer within 0.2 s"
            assert asyncio.get_running_loop().time() - start >= 0.4


async def test_a_backend_that_goes_and_comes_back(free_port):
    asked = target(free_port, rise=2, fall=2)
    async with checking([asked]) as (_, changes):
        with listener(free_port):
            assert (await changes.get())[1].health == "healthy"
        assert (await changes.get())[1].health == "unhealthy"
        with listener(free_port):
            assert (await changes.get())[1].health == "healthy"
        assert (await changes.get())[1].health == "unhealthy"


async def test_the_backends_program_never_meets_a_living_connection():
    with listener() as sock:
        asked = target(sock.getsockname()[1])
        for _ in range(20):
            await TcpProbe().probe(asked)
        while True:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                break
            with connection, pytest.raises(ConnectionResetError):
                connection.recv(1)


LISTEN = "0A"


def states(port):
    """The states of all sockets that have to do with a port of the loopback."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return [line.split()[3] for line in lines if f"0100007F:{port:04X}" in line]


async def test_a_check_leaves_no_socket_behind():
    with listener() as sock:
        port = sock.getsockname()[1]
        for _ in range(20):
            await TcpProbe().probe(target(port))
        assert states(port) == [LISTEN]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ECONNREFUSED, "connection refused"),
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.ENETUNREACH, "network is unreachable"),
        (errno.EINVAL, "invalid argument"),
    ],
)
def test_errors_are_told_in_words(number, words):
    told = failure(OSError(number, "Invalid argument" if number == errno.EINVAL else "x"))
    assert isinstance(told, CheckFailed)
    assert str(told) == words


async def test_too_few_file_descriptors_are_not_the_backends_fault():
    with listener() as sock:
        asked = target(sock.getsockname()[1])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(CheckNotMade, match=os.strerror(errno.EMFILE)):
                await TcpProbe().probe(asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_tries_that_cannot_be_made_change_no_verdict_and_are_told():
    answers = Answers()
    asked = target(80)
    async with checking([asked], {"tcp": answers}) as (checker, changes):
        await answers.answer(0.001)
        await changes.get()
        for error in (CheckNotMade("too many open files"), RuntimeError("a fault of the probe")):
            await answers.answer(error)
        await answers.tries.get()
        assert checker.verdict(asked).health == "healthy"
        assert checker.hindrance() == "1 checks cannot be made: internal error: RuntimeError('a fault of the probe')"


async def test_a_hindrance_is_over_with_the_next_try_that_is_made():
    answers = Answers()
    async with checking([target(80)], {"tcp": answers}) as (checker, _):
        await answers.answer(CheckNotMade("no memory"))
        await answers.answer(CheckFailed("no"))
        await answers.tries.get()
        assert checker.hindrance() is None


async def test_the_reason_counts_the_tries_on_the_way_to_a_change():
    answers = Answers()
    asked = target(80, fall=2)
    async with checking([asked], {"tcp": answers}) as (checker, changes):
        await answers.answer(0.001)
        await answers.answer(CheckFailed("refused"))
        _, pending = await answers.tries.get()
        verdict = checker.verdict(asked)
        assert (verdict.health, verdict.reason) == ("healthy", "port 80: refused (1 of 2 in a row that it takes)")
        pending.set_exception(CheckFailed("refused"))
        await changes.get()
        assert (await changes.get())[1].reason == "port 80: refused"


async def test_tries_of_a_target_never_overlap_and_the_slow_delay_nobody():
    answers = Answers()
    slow, quick = target(80), target(81)
    async with checking([slow, quick], {"tcp": answers}):
        seen = []
        while seen.count(quick) < 5:
            asked, answer = await answers.tries.get()
            seen.append(asked)
            if asked == quick:
                answer.set_result(0.001)
        assert seen.count(slow) == 1
        assert answers.most == 1


async def test_update_leaves_the_tasks_of_others_alone():
    answers = Answers()
    stays, goes, comes = target(80), target(81), target(82)
    async with checking([stays, goes], {"tcp": answers}) as (checker, _):
        tasks = {task.get_name(): task for task in asyncio.all_tasks()}
        first = {}
        while len(first) < 2:
            asked, answer = await answers.tries.get()
            first[asked.port] = answer
        checker.update([target(80), comes])
        assert len(checker.export()) == 2
        asked, _ = await answers.tries.get()
        assert asked == comes
        assert first[81].cancelled()
        assert not first[80].done()
        assert tasks[f"check {stays.key}"] in asyncio.all_tasks()
        assert answers.count == 3


async def test_a_changed_pace_keeps_the_verdict():
    answers = Answers()
    before, after = target(80), target(80, interval=0.03, fall=2)
    async with checking([before], {"tcp": answers}) as (checker, changes):
        await answers.answer(CheckFailed("refused"))
        _, verdict = await changes.get()
        assert checker.verdict(after) == verdict, "by it a commit is planned"
        assert checker.verdict(target(81)).health == "unknown"
        checker.update([after])
        assert checker.verdict(after) == verdict
        checker.update([])
        assert checker.verdict(after).health == "unknown"


async def test_an_error_of_the_listener_ends_no_check():
    answers = Answers()
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    told = asyncio.Queue()

    def careless(_, verdict):
        told.put_nowait(verdict.health)
        raise ValueError

    checker = Checker(careless, probes={"tcp": answers})
    checker.update([target(80)])
    await answers.answer(0.001)
    await answers.answer(CheckFailed("refused"))
    async with asyncio.timeout(SOON):
        assert [await told.get(), await told.get()] == ["healthy", "unhealthy"]
    await checker.stop()
    assert [type(error) for error in errors] == [ValueError, ValueError]


async def test_first_tries_of_many_targets_are_spread():
    answers = Answers()
    many = [target(port, interval=60.0) for port in range(1, 2001)]
    async with checking(many, {"tcp": answers}) as (checker, _):
        start = asyncio.get_running_loop().time()
        for _ in many:
            await answers.answer(0.001)
        assert 1.5 < asyncio.get_running_loop().time() - start < 15
        assert len(checker.export()) == 2000
        assert answers.count == 2000
